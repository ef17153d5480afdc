package rbac

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// Request is what somebody asked of the API server, without the answer.
type Request struct {
	Grant          // Name and Namespace are those asked for, empty where there was none
	Forbidden bool // the API server refused, for want of rights
}

// ServiceAccount is the user name of a ServiceAccount.
func ServiceAccount(namespace, name string) string {
	return "system:serviceaccount:" + namespace + ":" + name
}

// event is what is read of an Event of audit.k8s.io/v1.
type event struct {
	Verb string `json:"verb"`
	User struct {
		Username string `json:"username"`
	} `json:"user"`
	ObjectRef *struct {
		Resource    string `json:"resource"`
		Namespace   string `json:"namespace"`
		Name        string `json:"name"`
		APIGroup    string `json:"apiGroup"`
		Subresource string `json:"subresource"`
	} `json:"objectRef"`
	ResponseStatus *struct {
		Code int `json:"code"`
	} `json:"responseStatus"`
}

// Requests lists what the user asked for, from the API server's audit log (one
// JSON object a line, of level Metadata or above): sorted, each once. URLs that are no resources, such as
// /version, are left out: everybody may ask for them. A last line without its
// end, which the API server may be writing, is left out too.
func Requests(log io.Reader, user string) ([]Request, error) {
	refused := map[Grant]bool{}
	var all []Grant
	lines := bufio.NewReader(log)
	for n := 1; ; n++ {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read the audit log: %w", err)
		}
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		var e event
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("cannot read line %d of the audit log: %w", n, err)
		}
		if e.User.Username != user || e.ObjectRef == nil {
			continue
		}
		o := e.ObjectRef
		g := Grant{Namespace: o.Namespace, Verb: e.Verb, Group: o.APIGroup, Resource: o.Resource, Name: o.Name}
		if o.Subresource != "" {
			g.Resource += "/" + o.Subresource
		}
		if g.Verb == "create" && o.Subresource == "" {
			g.Name = "" // the name is in the body, where authorization does not look
		}
		all = append(all, g)
		if e.ResponseStatus != nil && e.ResponseStatus.Code == http.StatusForbidden {
			refused[g] = true
		}
	}
	var out []Request
	for _, g := range sorted(all) {
		out = append(out, Request{Grant: g, Forbidden: refused[g]})
	}
	return out, nil
}
