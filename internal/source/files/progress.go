package files

// Progress says how far the reading of a file has come.
type Progress struct {
	File         string
	Bytes, Total int64
	Objects      int
}

// meter counts what of a file was read.
type meter struct {
	Progress
	report func(Progress) // nil for nobody
}

// count notes so many bytes more, which held an object.
func (m *meter) count(bytes int) {
	m.Bytes = min(m.Bytes+int64(bytes), m.Total)
	m.Objects++
	if m.report != nil {
		m.report(m.Progress)
	}
}

// reach notes that all before an offset was read.
func (m *meter) reach(offset int) { m.Bytes = max(m.Bytes, int64(offset)) }
