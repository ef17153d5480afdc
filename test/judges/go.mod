module gatehouse.dev/gatehouse/test/judges

go 1.26.0
