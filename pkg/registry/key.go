package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"
)

// plain is the value of a node that has only defaults to say.
const plain = "0"

// record is a value in its long form. What is absent has its default.
type record struct {
	Weight  *int   `json:"weight,omitempty"`
	Version string `json:"version,omitempty"`
	Zone    string `json:"zone,omitempty"`
	State   State  `json:"state,omitempty"`
	TLS     bool   `json:"tls,omitempty"`
	Idle    int64  `json:"idle,omitempty"` // milliseconds
	Backup  bool   `json:"backup,omitempty"`
	Routes  string `json:"routes,omitempty"`
}

// Prefix returns what the keys of all nodes of a project begin with.
func Prefix(project string) string { return project + "_" }

// Key returns the key of n in the store: project, service and ID, joined by underscores. It is unambiguous when n is valid and
// the project's name passes [CheckProject].
func (n Node) Key(project string) string {
	return project + "_" + n.Service + "_" + n.RPCAddr + "_" + n.HTTPAddr
}

// Value returns the value of n in the store: "0" when n has only defaults to say, else one JSON object with the rest.
func (n Node) Value() string {
	var r record
	if n.Weight != defaultWeight {
		r.Weight = &n.Weight
	}
	if n.State != Up {
		r.State = n.State
	}
	r.Version, r.Zone = n.Version, n.Zone
	r.TLS, r.Idle = n.TLS, n.Idle.Milliseconds()
	r.Backup, r.Routes = n.Backup, n.Routes
	if r == (record{}) {
		return plain
	}
	b, err := json.Marshal(r)
	if err != nil {
		panic("BUG: encode node value: " + err.Error())
	}
	return string(b)
}

// Parse reads a node from its key and value; it undoes [Node.Key] and [Node.Value]. The key is read from both ends, so a
// service's name may hold underscores. The value is "0" or a JSON object of at most 4 KiB; unknown fields in it are for newer
// versions and ignored, an absent weight is 1, "idle" is in milliseconds. The node is valid when the error is nil, and has the same key.
func Parse(project, key, value string) (Node, error) {
	rest, ok := strings.CutPrefix(key, Prefix(project))
	if !ok {
		return Node{}, fmt.Errorf("parse key %.300q: not of project %q", key, project)
	}
	n := NewNode("", "", "")
	if n.Service, n.HTTPAddr, ok = cutLast(rest); ok {
		n.Service, n.RPCAddr, ok = cutLast(n.Service)
	}
	if !ok {
		return Node{}, fmt.Errorf("parse key %.300q: want project_service_host:port_host:port", key)
	}
	if err := n.parseValue(value); err != nil {
		return Node{}, fmt.Errorf("parse value of key %.300q: %w", key, err)
	}
	if err := n.Validate(); err != nil {
		return Node{}, fmt.Errorf("parse key %.300q: %w", key, err)
	}
	return n, nil
}

// parseValue sets what value says; the rest of n keeps its defaults.
func (n *Node) parseValue(value string) error {
	if value == plain {
		return nil
	}
	if len(value) > maxValue {
		return fmt.Errorf("%d bytes, at most %d", len(value), maxValue)
	}
	if !utf8.ValidString(value) {
		return errors.New("not UTF-8")
	}
	if !strings.HasPrefix(strings.TrimLeft(value, " \t\r\n"), "{") {
		return fmt.Errorf("%.40q is neither 0 nor a JSON object", value)
	}
	var r record
	if err := json.Unmarshal([]byte(value), &r); err != nil {
		return explain(err)
	}
	if r.Weight != nil {
		n.Weight = *r.Weight
	}
	if r.State != "" {
		n.State = r.State
	}
	n.Version, n.Zone = r.Version, r.Zone
	if r.Idle < 0 || r.Idle > MaxIdle.Milliseconds() { // before it overflows
		return fmt.Errorf("check idle limit of %d ms: want 0 to %d", r.Idle, MaxIdle.Milliseconds())
	}
	n.TLS, n.Idle = r.TLS, time.Duration(r.Idle)*time.Millisecond
	n.Backup, n.Routes = r.Backup, r.Routes
	return nil
}

// kinds are the values that the fields of a record may have, in words of JSON.
var kinds = map[reflect.Kind]string{reflect.Int: "a whole number", reflect.Int64: "a whole number", reflect.String: "a string", reflect.Bool: "true or false"}

// explain says what is wrong with a value in words that need no knowledge of this program.
func explain(err error) error {
	bad, ok := errors.AsType[*json.UnmarshalTypeError](err)
	switch {
	case !ok:
		return fmt.Errorf("want one JSON object: %w", err)
	case bad.Field == "":
		return fmt.Errorf("want one JSON object, not %s", bad.Value)
	}
	return fmt.Errorf("field %q: want %s, not %s", bad.Field, kinds[bad.Type.Kind()], bad.Value)
}

func cutLast(s string) (before, after string, found bool) {
	i := strings.LastIndexByte(s, '_')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}
