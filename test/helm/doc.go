// Package helm tests what users install Gatehouse with: the chart of deploy/helm,
// the manifests of deploy/kubernetes and the Dockerfile.
//
// It takes the chart and Helm's own program, which this module brings as a tool,
// and gives objects decoded strictly into the API's types: a field that does not
// exist fails. It never talks to a cluster; the tests of test/kube do.
package helm
