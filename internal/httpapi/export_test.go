package httpapi

// RoutesOf are all routes of a server.
func RoutesOf(s *Server) []Route { return s.routes }

// Hidden reports whether a route is not documented.
func (r Route) Hidden() bool { return r.hidden }

// Parameters is the JSON of the query of a URL.
var Parameters = parameters
