package app

// notForClusters says why a scenario runs in this process only.
type notForClusters struct {
	reason  string
	refused bool // by the API server, which is then tried
}

// notInCluster are the scenarios that say something about manifests in files, or
// about addresses that a cluster cannot have.
func notInCluster() map[string]notForClusters {
	return map[string]notForClusters{
		"class-any":               {reason: "an API server's Ingresses need a class that exists"},
		"class-both":              {reason: "the API server refuses a class and another in the old annotation", refused: true},
		"class-default":           {reason: "the API server writes the default class into an Ingress when it is made; class-default-new is for clusters"},
		"endpoints-ipv6":          {reason: "the cluster has IPv4 only"},
		"external-name-localhost": {reason: "the name leads to the Pod itself, where no backend is"},
		"external-name-refused":   {reason: "the API server refuses loopback addresses of endpoints", refused: true},
		"files-broken":            {reason: "it is about files"},
		"files-forms":             {reason: "it is about files"},
		"files-malformed-object":  {reason: "the API server refuses such objects; it is about files"},
		"host-invalid":            {reason: "the API server refuses such hosts and paths", refused: true},
		"host-case":               {reason: "the API server refuses capital letters in hosts", refused: true},
		"limits-response":         {reason: "the response by which it is known that the objects were taken in has more fields than it allows"},
		"service-upstream":        {reason: "it needs a backend at the Service's own address"},
	}
}
