package httpapi

import "net/http"

// A Scope is what a bearer token allows.
type Scope string

// The scopes. A route without one is open to everybody, and must not read
// the body, which has no bound.
const (
	Command Scope = "command" // carry out commands
	Query   Scope = "query"   // ask
	Operate Scope = "operate" // look after the ledger
)

// A Route is one method of one path: what serves it, who may ask, and all that
// the OpenAPI document says about it.
type Route struct {
	Method  string  // such as GET
	Path    string  // such as /admin/inventory-items/{id}, as [http.ServeMux] takes it
	Name    string  // the operation id, such as list-inventory-items
	About   string  // one line
	Scope   Scope   // "" is open to everybody
	Params  []Param // of the query; those of the path are in Path
	Body    any     // a value of the type of the body; nil: there is none
	Answer  any     // a value of the type of the answer; nil: it is not JSON
	Status  int     // of the answer; 0 is 200
	Errors  []int   // the statuses it may fail with, besides 401, 403 and 500
	Handler http.HandlerFunc

	stream bool // it answers without end, and is counted apart
	hidden bool // it is for what is not there, and not documented
}

// A Param is one parameter of the query.
type Param struct {
	Name  string
	About string
	Type  string // string, integer, number, boolean or array; "" is string
}
