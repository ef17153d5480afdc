package admin

import (
	"bytes"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"strings"
	"time"
)

// process is what there is to know about the program itself.
type process struct {
	Version     string            `json:"version"`
	Go          string            `json:"go"`
	Platform    string            `json:"platform"`
	PID         int               `json:"pid"`
	Started     time.Time         `json:"started"`
	Now         time.Time         `json:"now"`
	Flags       map[string]string `json:"flags,omitempty"`
	Environment map[string]string `json:"environment"`
	CPUs        int               `json:"cpus"`
	MaxProcs    int               `json:"maxProcs"`
	Goroutines  int               `json:"goroutines"`
	OpenFiles   int               `json:"openFiles"` // -1: not known
	Memory      memory            `json:"memory"`
}

// memory is in bytes.
type memory struct {
	HeapInUse     uint64    `json:"heapInUse"`
	HeapObjects   uint64    `json:"heapObjects"`
	HeapReleased  uint64    `json:"heapReleased"`
	NextGC        uint64    `json:"nextGC"`
	Stacks        uint64    `json:"stacks"`
	Total         uint64    `json:"total"` // from the system
	Limit         int64     `json:"limit"` // GOMEMLIMIT
	Collections   uint32    `json:"collections"`
	LastCollected time.Time `json:"lastCollected,omitzero"`
	GCShare       float64   `json:"gcShare"` // of the CPU, since the start
}

func (s *Server) process() any {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	p := process{
		Version: s.o.Version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, PID: os.Getpid(),
		Started: s.started, Now: time.Now(), Environment: environment(os.Environ()),
		CPUs: runtime.NumCPU(), MaxProcs: runtime.GOMAXPROCS(0), Goroutines: runtime.NumGoroutine(), OpenFiles: openFiles(),
		Memory: memory{
			HeapInUse: m.HeapInuse, HeapObjects: m.HeapObjects, HeapReleased: m.HeapReleased, NextGC: m.NextGC,
			Stacks: m.StackInuse, Total: m.Sys, Limit: debug.SetMemoryLimit(-1), Collections: m.NumGC, GCShare: m.GCCPUFraction,
		},
	}
	if m.LastGC > 0 {
		p.Memory.LastCollected = time.Unix(0, int64(m.LastGC))
	}
	if s.o.Flags != nil {
		p.Flags = s.o.Flags()
	}
	return p
}

// plainVariables may be shown. Of all others only the name is: what a Pod gets
// from Secrets often comes in the environment.
var plainVariables = []string{
	"GOMAXPROCS", "GOMEMLIMIT", "GOGC", "GODEBUG", "GOTRACEBACK", "HOSTNAME", "NODE_NAME", "POD_NAME", "POD_NAMESPACE", "POD_IP",
	"KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "PATH", "TZ",
}

const hidden = "(set, not shown)"

// environment gives the variables by name. Those of flags are shown: flags name
// Secrets and never hold them.
func environment(all []string) map[string]string {
	out := map[string]string{}
	for _, v := range all {
		name, value, _ := strings.Cut(v, "=")
		if !slices.Contains(plainVariables, name) && !strings.HasPrefix(name, "GATEHOUSE_") || looksSecret(name) {
			value = hidden
		}
		out[name] = value
	}
	return out
}

// looksSecret distrusts names that do not come from here.
func looksSecret(name string) bool {
	name = strings.ToLower(name)
	for _, word := range []string{"password", "passwd", "token", "credential", "private", "apikey", "api_key"} {
		if strings.Contains(name, word) {
			return true
		}
	}
	return false
}

func openFiles() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return -1
	}
	return len(entries)
}

func (s *Server) recent() []byte {
	if s.o.Recent == nil {
		return nil
	}
	return s.o.Recent.Text()
}

func (s *Server) failures() []byte {
	if s.o.Log == nil {
		return nil
	}
	return s.o.Log.Failures()
}

// text shows lines.
func text(get func() []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { writeText(w, http.StatusOK, string(get())) })
}

// goroutines needs no --pprof: it stops nothing for long, and a program that
// hangs is asked for it first.
func goroutines(w http.ResponseWriter, _ *http.Request) {
	var b bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&b, 1); err != nil {
		writeText(w, http.StatusInternalServerError, "cannot list goroutines\n")
		return
	}
	writeText(w, http.StatusOK, b.String())
}
