package route

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// The bounds of what a route may say.
const (
	MaxTimeout = time.Hour
	MaxRetries = 5
	// MinAttemptTimeout and MinHedge are the least of what they are named for, if it is
	// not 0. A hedge that comes at once doubles the work of all nodes.
	MinAttemptTimeout = 100 * time.Millisecond
	MinHedge          = time.Millisecond

	maxName   = 255 // bytes of a service's or an action's name
	maxMethod = 32  // bytes of a method
)

// Services are the configured routes: by service, then by action, the rest of the path
// that clients use. An action may have several segments ("order/submit").
type Services map[string]map[string]Route

// Route is one configured route. In a configuration file it is a mapping, or in short
// only its path.
type Route struct {
	// Path is where a node serves the route: canonical, without a query. Required.
	Path string `yaml:"path"`
	// Methods are the methods that are let through, in upper case; GET stands for HEAD
	// too. None means all but CONNECT and TRACE, which no route may serve.
	Methods []string `yaml:"methods"`
	// Timeout bounds the time until the head of the answer is there, all attempts
	// together, up to MaxTimeout; 0 means the gateway's default.
	Timeout time.Duration `yaml:"timeout"`
	// AttemptTimeout bounds one attempt within Timeout: a request that may be repeated
	// goes to another node when it is over. From MinAttemptTimeout on, less than Timeout;
	// 0 means that an attempt has all the time there is.
	AttemptTimeout time.Duration `yaml:"attemptTimeout"`
	// Hedge is after how long without an answer a second node is asked beside the
	// first, for requests without a body that may be repeated; the first answer counts.
	// From MinHedge on, less than Timeout; 0 means never.
	Hedge time.Duration `yaml:"hedge"`
	// IdempotencyKey says that a request with an Idempotency-Key may be repeated like
	// one whose method allows that, since every node of the service would know it again.
	IdempotencyKey bool `yaml:"idempotencyKey"`
	// Retries is how many further attempts there may be after the first, up to
	// MaxRetries; nil means the gateway's default.
	Retries *int `yaml:"retries"`
	// MaxBody bounds the request's body; 0 means the gateway's default.
	MaxBody Size `yaml:"maxBody"`
}

// UnmarshalText reads the short form of a route: its path alone.
func (r *Route) UnmarshalText(text []byte) error {
	*r = Route{Path: string(text)}
	return nil
}

// Error is one complaint about Services.
type Error struct {
	// Key is where the complaint belongs: the names of service, action and field,
	// joined by dots, such as "user.login.path"; of these the last may be missing.
	Key string
	// Msg says what is wrong.
	Msg string
}

// Error returns the key and the message.
func (e *Error) Error() string {
	if e.Key == "" {
		return e.Msg
	}
	return e.Key + ": " + e.Msg
}

// ConfigKey returns the key.
func (e *Error) ConfigKey() string { return e.Key }

// Validate returns nil, or all complaints as a join of *Error, sorted by service and
// action.
func (s Services) Validate() error {
	var errs []error
	add := func(key string, err error) {
		if err != nil {
			errs = append(errs, &Error{Key: key, Msg: err.Error()})
		}
	}
	for _, service := range slices.Sorted(maps.Keys(s)) {
		add(service, checkService(service))
		for _, action := range slices.Sorted(maps.Keys(s[service])) {
			key := service + "." + action
			add(key, checkAction(action))
			for _, c := range s[service][action].complaints() {
				add(key+"."+c.field, c.err)
			}
		}
	}
	return errors.Join(errs...)
}

// complaint is what is wrong with a field of a route.
type complaint struct {
	field string
	err   error
}

// complaints returns what is wrong with the route, and nil errors for what is not.
func (r Route) complaints() []complaint {
	out := []complaint{
		{"path", checkPath(r.Path)},
		{"methods", checkMethods(r.Methods)},
	}
	if r.Timeout < 0 || r.Timeout > MaxTimeout {
		out = append(out, complaint{"timeout", fmt.Errorf("%v is not between 0s and %v", r.Timeout, MaxTimeout)})
	}
	out = append(out,
		complaint{"attemptTimeout", r.checkWithin(r.AttemptTimeout, MinAttemptTimeout)},
		complaint{"hedge", r.checkWithin(r.Hedge, MinHedge)},
	)
	if r.Hedge != 0 && r.Retries != nil && *r.Retries == 0 {
		out = append(out, complaint{"hedge", errors.New("a second attempt contradicts retries: 0")})
	}
	if r.Retries != nil && (*r.Retries < 0 || *r.Retries > MaxRetries) {
		out = append(out, complaint{"retries", fmt.Errorf("%d is not between 0 and %d", *r.Retries, MaxRetries)})
	}
	if r.MaxBody < 0 {
		out = append(out, complaint{"maxBody", fmt.Errorf("%d is negative", r.MaxBody)})
	}
	return out
}

// checkWithin checks a time within the route's own.
func (r Route) checkWithin(d, least time.Duration) error {
	switch {
	case d == 0:
	case d < least || d > MaxTimeout:
		return fmt.Errorf("%v is not between %v and %v", d, least, MaxTimeout)
	case r.Timeout > 0 && d >= r.Timeout:
		return fmt.Errorf("%v is not less than the route's timeout of %v", d, r.Timeout)
	}
	return nil
}

func checkService(name string) error {
	if strings.Contains(name, "/") {
		return fmt.Errorf("service name %q: it must not hold \"/\"", name)
	}
	if err := checkSegments(name); err != nil {
		return fmt.Errorf("service name %q: %w", name, err)
	}
	return nil
}

func checkAction(name string) error {
	if strings.HasPrefix(name, "/") || strings.HasSuffix(name, "/") {
		return fmt.Errorf("action %q: it must not begin or end with \"/\"", name)
	}
	if err := checkSegments(name); err != nil {
		return fmt.Errorf("action %q: %w", name, err)
	}
	return nil
}

// checkSegments checks a name of one or more segments, which must be the same in every
// spelling of a path: so it holds nothing that could be percent-encoded.
func checkSegments(name string) error {
	if name == "" {
		return errors.New("it must not be empty")
	}
	if len(name) > maxName {
		return fmt.Errorf("it is longer than %d bytes", maxName)
	}
	for segment := range strings.SplitSeq(name, "/") {
		switch segment {
		case "":
			return errors.New("it must not hold an empty segment")
		case ".", "..":
			return fmt.Errorf("it must not hold the segment %q", segment)
		}
		for _, c := range segment {
			if c > 0x7f || !unreserved(byte(c)) {
				return fmt.Errorf("it must not hold %q, only letters, digits and - . _ ~", c)
			}
		}
	}
	return nil
}

func checkPath(path string) error {
	if path == "" {
		return errors.New(`it must not be empty: write the path at the node, such as "/login"`)
	}
	canonical, err := Canonical(nil, []byte(path))
	if err != nil {
		reason := err.Error()
		if e, ok := errors.AsType[*PathError](err); ok {
			reason = "it " + e.Reason
		}
		return fmt.Errorf("path %q: %s", path, reason)
	}
	if string(canonical) != path {
		return fmt.Errorf("path %q is not canonical: write %q", path, canonical)
	}
	return nil
}

func checkMethods(methods []string) error {
	for i, m := range methods {
		switch upper := strings.ToUpper(m); {
		case m == "*":
			return errors.New(`method "*": leave methods out to serve all`)
		case !token(m):
			return fmt.Errorf("method %q: it must be a token of at most %d characters", m, maxMethod)
		case m != upper:
			return fmt.Errorf("method %q: write %q", m, upper)
		case unroutable(m):
			return fmt.Errorf("method %q cannot be routed", m)
		case slices.Contains(methods[:i], m):
			return fmt.Errorf("method %q is listed twice", m)
		}
	}
	return nil
}

// token reports whether s is a token (RFC 9110, 5.6.2) that is not too long.
func token(s string) bool {
	for _, c := range []byte(s) {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !letter && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return s != "" && len(s) <= maxMethod
}
