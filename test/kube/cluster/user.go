package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// User is an identity the API server knows by its client certificate.
type User struct {
	Kubeconfig string // path of a file with everything in it

	config *rest.Config
}

// Config is a copy of the configuration for client-go. It has no client-side
// rate limit, for tests that create thousands of objects.
func (u *User) Config() *rest.Config { return rest.CopyConfig(u.config) }

// Admin is a member of system:masters, who may do everything.
func (c *Cluster) Admin() *User { return c.admin }

// User makes a user with the given name, the subject of RBAC bindings, and
// groups. Besides what every authenticated user may do (discovery, reviews of
// its own access) it may do nothing until a binding allows it. The certificate
// is valid for a week. The user of a service account is named
// system:serviceaccount:NAMESPACE:NAME, in the groups system:serviceaccounts and
// system:serviceaccounts:NAMESPACE.
func (c *Cluster) User(name string, groups ...string) (*User, error) {
	cert, err := c.ca.client(name, groups)
	if err != nil {
		return nil, err
	}
	// Numbered: a user's name need not be fit for a file name.
	file := filepath.Join(c.dir, "user-"+strconv.FormatInt(c.users.Add(1), 10)+".kubeconfig")
	const entry = "test"
	config := clientcmdapi.NewConfig()
	config.CurrentContext = entry
	config.Clusters[entry] = &clientcmdapi.Cluster{Server: c.URL(), CertificateAuthorityData: c.ca.pem}
	config.AuthInfos[entry] = &clientcmdapi.AuthInfo{ClientCertificateData: cert.cert, ClientKeyData: cert.key}
	config.Contexts[entry] = &clientcmdapi.Context{Cluster: entry, AuthInfo: entry}
	text, err := clientcmd.Write(*config)
	if err != nil {
		return nil, fmt.Errorf("cannot write the kubeconfig of %s: %w", name, err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return nil, fmt.Errorf("cannot write the kubeconfig of %s: %w", name, err)
	}
	return &User{
		Kubeconfig: file,
		config: &rest.Config{
			Host:            c.URL(),
			TLSClientConfig: rest.TLSClientConfig{CAData: c.ca.pem, CertData: cert.cert, KeyData: cert.key},
			QPS:             -1,
		},
	}, nil
}
