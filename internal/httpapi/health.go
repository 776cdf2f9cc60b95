package httpapi

import (
	"encoding/json"
	"net/http"
)

// A Condition is one thing that must hold for the ledger to be of use.
type Condition struct {
	Name string `json:"name"` // such as model inventory
	OK   bool   `json:"ok"`
	// Reason says what is wrong, "" if nothing is. Everybody may read it.
	Reason string `json:"reason,omitempty"`
}

// Health is the answer of /healthz and /readyz.
type Health struct {
	Status     string      `json:"status"` // ok, or unavailable
	Conditions []Condition `json:"conditions,omitempty"`
}

// healthRoutes tell how the ledger is. Probes carry no token, so whether it works
// is open to everybody.
func (s *Server) healthRoutes() []Route {
	all := []Route{
		{
			Method: http.MethodGet, Path: "/healthz", Name: "healthz", Answer: Health{},
			About:   "The process is up. Restart it when this does not answer.",
			Handler: s.handle(func(*http.Request) (any, error) { return Health{Status: "ok"}, nil }),
		},
		{
			Method: http.MethodGet, Path: "/openapi.json", Name: "openapi", Answer: json.RawMessage{},
			About: "This document.", Handler: s.describe,
		},
		{
			Method: http.MethodGet, Path: "/readyz", Name: "readyz", Answer: Health{}, Errors: []int{503},
			About:   "The ledger takes commands, and its answers are not far behind. Send traffic elsewhere while this fails.",
			Handler: s.ready,
		},
	}
	if s.config.Metrics != nil {
		all = append(all, Route{
			Method: http.MethodGet, Path: "/metrics", Name: "metrics", Scope: Operate,
			About: "Figures for Prometheus.", Handler: s.config.Metrics.ServeHTTP,
		})
	}
	return all
}

func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	health, status := Health{Status: "ok"}, http.StatusOK
	if s.config.Ready != nil {
		health.Conditions = s.config.Ready(r.Context())
	}
	for _, c := range health.Conditions {
		if !c.OK {
			health.Status, status = "unavailable", http.StatusServiceUnavailable
			w.Header().Set("Retry-After", "1")
		}
	}
	s.write(w, r, status, health)
}
