package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// AsPublished is the Weight of an [Override] that leaves the weight to the node.
const AsPublished = -1

// maxBy bounds the name of who set an override, in bytes.
const maxBy = 200

// Override is what an operator has set for one node over what the node says of itself. It stays when the node registers again.
// It is a value: comparable, but for At, and safe to copy.
type Override struct {
	// Service and ID name the node, as in [Node].
	Service, ID string
	// Weight is 0 to [MaxWeight], or [AsPublished].
	Weight int
	// State is [Draining], or empty: as the node says. A node that drains cannot be made to take requests again.
	State State
	// By says who set it last, as user@host, and At when. They are for people.
	By string
	At time.Time
}

// overrideRecord is the value of an override in the store.
type overrideRecord struct {
	Weight *int      `json:"weight,omitempty"`
	State  State     `json:"state,omitempty"`
	By     string    `json:"by"`
	At     time.Time `json:"at"`
}

// OverridePrefix returns what the keys of all overrides of a project begin with. No key of a node begins so.
func OverridePrefix(project string) string { return project + "/overrides/" }

// Key returns the key of o in the store: the project's prefix, the service and the node's ID, joined by slashes.
func (o Override) Key(project string) string { return OverridePrefix(project) + o.Service + "/" + o.ID }

// Value returns the value of o in the store, one JSON object.
func (o Override) Value() string {
	r := overrideRecord{State: o.State, By: o.By, At: o.At}
	if o.Weight != AsPublished {
		r.Weight = &o.Weight
	}
	b, err := json.Marshal(r)
	if err != nil {
		panic("BUG: encode override: " + err.Error())
	}
	return string(b)
}

// String returns what o sets, for people: "draining, weight 5".
func (o Override) String() string {
	var parts []string
	if o.State != "" {
		parts = append(parts, string(o.State))
	}
	if o.Weight != AsPublished {
		parts = append(parts, fmt.Sprintf("weight %d", o.Weight))
	}
	if parts == nil {
		return "as published"
	}
	return strings.Join(parts, ", ")
}

// Empty reports whether o leaves everything to the node.
func (o Override) Empty() bool { return o.Weight == AsPublished && o.State == "" }

// Validate reports why o cannot be used, nil when it can.
func (o Override) Validate() error {
	errs := []error{checkService(o.Service)}
	rpc, http, ok := strings.Cut(o.ID, "_")
	if !ok {
		errs = append(errs, fmt.Errorf("check node %.300q: want host:port_host:port, as in /cluster", o.ID))
	} else {
		errs = append(errs, checkAddr("rpc", rpc), checkAddr("http", http))
	}
	if o.Weight != AsPublished && (o.Weight < 0 || o.Weight > MaxWeight) {
		errs = append(errs, fmt.Errorf("check weight %d: want 0 to %d", o.Weight, MaxWeight))
	}
	if o.State != "" && o.State != Draining {
		errs = append(errs, fmt.Errorf("check state %.40q: want %q", o.State, Draining))
	}
	errs = append(errs, checkText("author", o.By, maxBy))
	return errors.Join(errs...)
}

// ParseOverride reads an override from its key and value; it undoes [Override.Key] and [Override.Value]. The value is a JSON
// object of at most 4 KiB. The override is valid when the error is nil.
func ParseOverride(project, key, value string) (Override, error) {
	rest, ok := strings.CutPrefix(key, OverridePrefix(project))
	service, id, slash := strings.Cut(rest, "/")
	if !ok || !slash {
		return Override{}, fmt.Errorf("parse key %.300q: want project/overrides/service/node", key)
	}
	if len(value) > maxValue || !utf8.ValidString(value) {
		return Override{}, fmt.Errorf("parse value of key %.300q: want UTF-8 of at most %d bytes", key, maxValue)
	}
	var r overrideRecord
	if err := json.Unmarshal([]byte(value), &r); err != nil {
		return Override{}, fmt.Errorf("parse value of key %.300q: %w", key, explain(err))
	}
	o := Override{Service: service, ID: id, Weight: AsPublished, State: r.State, By: r.By, At: r.At}
	if r.Weight != nil {
		// AsPublished written out is as wrong as any other negative weight.
		if o.Weight = *r.Weight; o.Weight < 0 {
			return Override{}, fmt.Errorf("parse value of key %.300q: weight %d: want 0 to %d", key, o.Weight, MaxWeight)
		}
	}
	if err := o.Validate(); err != nil {
		return Override{}, fmt.Errorf("parse key %.300q: %w", key, err)
	}
	return o, nil
}

// Override returns s with list laid over its nodes. Overrides of nodes that s does not hold do nothing. s is not changed, and
// shares its nodes with what is returned when there is nothing to change.
func (s Snapshot) Override(list []Override) Snapshot {
	copied := false
	for _, o := range list {
		of := s.Of(o.Service)
		i, ok := slices.BinarySearchFunc(of, o.ID, func(n Node, id string) int { return compareID(n, id) })
		if !ok {
			continue
		}
		n := o.over(of[i])
		if n == of[i] {
			continue
		}
		if !copied {
			s.Nodes, copied = slices.Clone(s.Nodes), true
			of = s.Of(o.Service)
		}
		of[i] = n
	}
	return s
}

// over returns n with o laid over it.
func (o Override) over(n Node) Node {
	if o.Weight != AsPublished {
		n.Weight = o.Weight
	}
	if o.State != "" {
		n.State = o.State
	}
	return n
}

// compareID orders a node's ID against id without building it.
func compareID(n Node, id string) int {
	rpc, http, ok := strings.Cut(id, "_")
	if !ok {
		return strings.Compare(n.ID(), id)
	}
	return compare(n, Node{Service: n.Service, RPCAddr: rpc, HTTPAddr: http})
}
