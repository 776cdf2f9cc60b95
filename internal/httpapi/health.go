package httpapi

import (
	"encoding/json"
	"net/http"
	"slices"

	"github.com/stockledger/stockledger/internal/fault"
)

// A Condition is one thing that must hold for the ledger to be of use.
type Condition struct {
	Name string `json:"name"` // such as model inventory
	OK   bool   `json:"ok"`
	// Reason says what is wrong, "" if nothing is; of the role, which it is.
	// Everybody may read it.
	Reason string `json:"reason,omitempty"`
}

// The roles of a node among those that share a log.
const (
	Leading = "leading" // it carries out the commands
	Standby = "standby" // it answers queries, and takes over when the leading node is gone
)

// Health is the answer of /healthz and /readyz.
type Health struct {
	Status     string      `json:"status"`         // ok, or unavailable
	Role       string      `json:"role,omitempty"` // leading, or standby; "" without Config.Standby
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
			Method: http.MethodGet, Path: "/readyz", Name: "readyz", Answer: Health{}, Errors: []int{400, 503},
			About:   "The node answers, and its answers are not far behind. Send traffic elsewhere while this fails.",
			Params:  []Param{{Name: "role", About: "active: and it is the node that carries out commands."}},
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
	asked := r.URL.Query().Get("role")
	if asked != "" && asked != "active" {
		s.refuse(w, r, fault.New(fault.Invalid, "invalid_data", "role=%s: write role=active, or leave it out", asked).With("field", "role"))
		return
	}
	health, status := Health{Status: "ok"}, http.StatusOK
	if s.config.Ready != nil {
		health.Conditions = s.config.Ready(r.Context())
	}
	if s.config.Standby != nil {
		var role Condition
		health.Role, role = s.role(asked == "active")
		health.Conditions = append(slices.Clip(health.Conditions), role)
	}
	for _, c := range health.Conditions {
		if !c.OK {
			health.Status, status = "unavailable", http.StatusServiceUnavailable
			w.Header().Set("Retry-After", "1")
		}
	}
	s.write(w, r, status, health)
}

// role is which one this node has, and whether that will do.
func (s *Server) role(mustLead bool) (string, Condition) {
	if err := s.config.Standby(); err != nil {
		return Standby, Condition{Name: "role", OK: !mustLead, Reason: fault.Public(err).Message}
	}
	return Leading, Condition{Name: "role", OK: true, Reason: Leading}
}
