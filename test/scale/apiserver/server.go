// Package apiserver is as much of a Kubernetes API server as Gatehouse asks for:
// it lists and watches objects of a few kinds as streams, in protobuf, and takes
// in what Gatehouse writes (Lease, Events, one Secret). It is for measurements,
// where a real API server would compete with what is measured: it validates
// nothing, and forgets nothing.
//
// It keeps objects as bytes, so that many of them are no work for the collector
// of the program that measures.
package apiserver

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/scheme"
)

// Server answers API requests. It is safe for concurrent use.
type Server struct {
	encoder runtime.Serializer

	mu      sync.Mutex
	version int64
	kinds   map[string]*collection // by path, "/api/v1/services"
	written map[string][]byte      // what clients wrote, by path
	listed  time.Time              // when the last stream had sent all there was
}

// collection is all objects of a kind.
type collection struct {
	example  runtime.Object
	objects  map[string][]byte // encoded, by namespace/name
	order    []string
	watchers map[*watcher]struct{}
}

// watcher is a stream that has sent what there was.
type watcher struct{ events chan []byte }

// backlog is how many events wait for a reader before it is cut off.
const backlog = 10_000

// New gives a Server without objects, which knows the kinds: by the path of all
// of them, an example.
func New(kinds map[string]runtime.Object) *Server {
	s := &Server{
		encoder: protobuf.NewSerializer(scheme.Scheme, scheme.Scheme), version: 1,
		kinds: map[string]*collection{}, written: map[string][]byte{},
	}
	for path, example := range kinds {
		s.kinds[path] = &collection{example: example, objects: map[string][]byte{}, watchers: map[*watcher]struct{}{}}
	}
	return s
}

// Object is one of the API.
type Object interface {
	metav1.Object
	runtime.Object
}

// Set adds or replaces an object of the kind with the path, and tells watchers.
// It sets the object's resource version.
func (s *Server) Set(path string, o Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	o.SetResourceVersion(strconv.FormatInt(s.version, 10))
	c, k := s.kinds[path], o.GetNamespace()+"/"+o.GetName()
	kind := watch.Modified
	if c.objects[k] == nil {
		kind = watch.Added
		c.order = append(c.order, k)
	}
	raw := s.encode(o)
	c.objects[k] = raw
	if len(c.watchers) == 0 {
		return
	}
	event := frame(kind, raw)
	for w := range c.watchers {
		select {
		case w.events <- event:
		default: // it asks anew when the stream ends
			close(w.events)
			delete(c.watchers, w)
		}
	}
}

// Listed is when the last stream had sent all that there was at its beginning.
func (s *Server) Listed() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.listed
}

func (s *Server) encode(o runtime.Object) []byte {
	var b bytes.Buffer
	if err := s.encoder.Encode(o, &b); err != nil {
		panic("BUG: cannot encode: " + err.Error())
	}
	return b.Bytes()
}

// frame is an event as the stream has it: its length in four bytes, then itself.
func frame(kind watch.EventType, raw []byte) []byte {
	event := metav1.WatchEvent{Type: string(kind), Object: runtime.RawExtension{Raw: raw}}
	out := make([]byte, 4+event.Size())
	n, err := event.MarshalToSizedBuffer(out[4:])
	if err != nil || n != len(out)-4 {
		panic(fmt.Sprintf("BUG: cannot encode an event: %v", err))
	}
	binary.BigEndian.PutUint32(out, uint32(n))
	return out
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	c := s.kinds[r.URL.Path]
	s.mu.Unlock()
	if c != nil && r.Method == http.MethodGet && r.URL.Query().Get("watch") != "" {
		s.stream(w, r, c)
		return
	}
	if r.Method != http.MethodGet {
		s.write(w, r)
		return
	}
	s.get(w, r)
}

// stream sends what there is, if that is asked for, and then what changes. Who
// comes back for what came after a version must list anew: it may be lost here.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, c *collection) {
	none := strings.Contains(r.URL.Query().Get("fieldSelector"), "type!=")
	bookmark := c.example.DeepCopyObject()
	if strings.Contains(r.Header.Get("Accept"), "as=PartialObjectMetadata") {
		bookmark = &metav1.PartialObjectMetadata{}
		bookmark.GetObjectKind().SetGroupVersionKind(metav1.SchemeGroupVersion.WithKind("PartialObjectMetadata"))
	}
	if r.URL.Query().Get("sendInitialEvents") != "true" {
		s.refuse(w, apierrors.NewResourceExpired("list anew"))
		return
	}
	watching := &watcher{events: make(chan []byte, backlog)}
	s.mu.Lock()
	var initial [][]byte
	if !none {
		for _, k := range c.order {
			initial = append(initial, c.objects[k])
		}
		c.watchers[watching] = struct{}{}
	}
	version := strconv.FormatInt(s.version, 10)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(c.watchers, watching)
		s.mu.Unlock()
	}()

	w.Header().Set("Content-Type", "application/vnd.kubernetes.protobuf;stream=watch")
	w.WriteHeader(http.StatusOK)
	for _, raw := range initial {
		if _, err := w.Write(frame(watch.Added, raw)); err != nil {
			return
		}
	}
	m := bookmark.(metav1.Object)
	m.SetResourceVersion(version)
	m.SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
	w.Write(frame(watch.Bookmark, s.encode(bookmark)))
	http.NewResponseController(w).Flush()
	s.mu.Lock()
	s.listed = time.Now()
	s.mu.Unlock()
	for {
		select {
		case <-r.Context().Done():
			return
		case event, open := <-watching.events:
			if !open {
				return
			}
			if _, err := w.Write(event); err != nil {
				return
			}
			if len(watching.events) == 0 {
				http.NewResponseController(w).Flush()
			}
		}
	}
}

// get answers with what a client wrote, or an object.
func (s *Server) get(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	raw := s.written[r.URL.Path]
	// /api/v1/namespaces/NAMESPACE/secrets/NAME
	if before, after, ok := strings.Cut(r.URL.Path, "/namespaces/"); ok && raw == nil {
		if p := strings.Split(after, "/"); len(p) == 3 {
			if c := s.kinds[before+"/"+p[1]]; c != nil {
				raw = c.objects[p[0]+"/"+p[2]]
			}
		}
	}
	s.mu.Unlock()
	if raw == nil {
		s.refuse(w, apierrors.NewNotFound(schema.GroupResource{Resource: r.URL.Path}, ""))
		return
	}
	s.answer(w, http.StatusOK, raw)
}

// write takes in an object; who made it, and who changes it, gets it back.
func (s *Server) write(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	decoded, _, err := scheme.Codecs.UniversalDeserializer().Decode(body, nil, nil)
	o, ok := decoded.(Object)
	if err != nil || !ok || r.Method == http.MethodPatch {
		s.refuse(w, apierrors.NewBadRequest(fmt.Sprintf("%s %s: %v", r.Method, r.URL.Path, err)))
		return
	}
	s.mu.Lock()
	s.version++
	o.SetResourceVersion(strconv.FormatInt(s.version, 10))
	raw := s.encode(o)
	path, status := r.URL.Path, http.StatusOK
	if r.Method == http.MethodPost {
		path, status = path+"/"+o.GetName(), http.StatusCreated
	}
	if !strings.Contains(path, "/events/") {
		s.written[path] = raw
	}
	s.mu.Unlock()
	s.answer(w, status, raw)
}

func (s *Server) refuse(w http.ResponseWriter, err *apierrors.StatusError) {
	status := err.Status()
	status.SetGroupVersionKind(schema.GroupVersionKind{Version: "v1", Kind: "Status"})
	s.answer(w, int(status.Code), s.encode(&status))
}

func (s *Server) answer(w http.ResponseWriter, status int, raw []byte) {
	w.Header().Set("Content-Type", runtime.ContentTypeProtobuf)
	w.WriteHeader(status)
	w.Write(raw)
}
