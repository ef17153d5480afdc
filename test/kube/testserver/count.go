package testserver

import (
	"maps"
	"strings"
	"sync"
)

// Counter counts requests by number. It may be used concurrently.
type Counter struct {
	mu   sync.Mutex
	runs map[string]*Seen
}

// Seen is how often the requests of a run were executed.
type Seen struct {
	Requests   int            `json:"requests"`
	Distinct   int            `json:"distinct"`             // numbers
	Duplicates map[string]int `json:"duplicates,omitempty"` // those executed more than once
	Pods       map[string]int `json:"pods,omitempty"`       // requests by pod
	Numbers    map[string]int `json:"numbers,omitempty"`    // all of them, where asked for
}

// Run is the part of a request's number that all requests of a run share: what
// stands before the last "-".
func Run(number string) string {
	return number[:max(strings.LastIndexByte(number, '-'), 0)]
}

// Add counts one execution of a request, by pod.
func (c *Counter) Add(number, pod string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	run := Run(number)
	s := c.runs[run]
	if s == nil {
		if c.runs == nil {
			c.runs = map[string]*Seen{}
		}
		s = &Seen{Pods: map[string]int{}, Numbers: map[string]int{}}
		c.runs[run] = s
	}
	s.Requests++
	s.Pods[pod]++
	s.Numbers[number]++
}

// Seen is what was counted for a run so far; Numbers only when all is set.
func (c *Counter) Seen(run string, all bool) Seen {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.runs[run]
	if s == nil {
		return Seen{}
	}
	result := Seen{Requests: s.Requests, Distinct: len(s.Numbers), Pods: maps.Clone(s.Pods)}
	for number, n := range s.Numbers {
		if n > 1 {
			if result.Duplicates == nil {
				result.Duplicates = map[string]int{}
			}
			result.Duplicates[number] = n
		}
	}
	if all {
		result.Numbers = maps.Clone(s.Numbers)
	}
	return result
}
