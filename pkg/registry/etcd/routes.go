package etcd

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// MaxRoutes is how large a route table may be, in bytes.
	MaxRoutes = 1 << 20
	// KeptRoutes is how many versions of the route table are kept, the newest ones.
	KeptRoutes = 50
	// maxVersion bounds the number of a version: what somebody has written there by hand may be anything.
	maxVersion = 999_999_999
	// maxNote bounds a comment and an author, in bytes.
	maxNote = 400
)

// The errors of route tables that callers tell apart.
var (
	// ErrNoRoutes is returned when there is no route table, or not of that version.
	ErrNoRoutes = errors.New("no such route table")
	// ErrRoutesMoved is returned by a push that was made from a version which is not the newest any more.
	ErrRoutesMoved = errors.New("somebody else has pushed since")
)

// RouteDoc is one version of a project's route table, as it is kept in etcd. It is never changed.
type RouteDoc struct {
	// Version counts pushes and rollbacks from 1.
	Version int64 `json:"version"`
	// YAML is the table as it was pushed.
	YAML []byte `json:"-"`
	// Size is the length of YAML in bytes, and Digest its SHA-256 in hex.
	Size   int    `json:"size"`
	Digest string `json:"sha256"`
	// Comment and Author are for people; At is when it was pushed, by the clock of who did.
	Comment string    `json:"comment,omitempty"`
	Author  string    `json:"author,omitempty"`
	At      time.Time `json:"at"`
	// RolledBack is the version that this one repeats; 0 for a push.
	RolledBack int64 `json:"rolledBack,omitempty"`
}

// Routes keeps the versions of a project's route table in etcd. All methods are safe for concurrent use, in one process and in
// many. It does not look into the tables: who pushes has checked them.
//
// The keys are {project}/routes/head, which names the newest version, and {project}/routes/v/{version}, whose value is one line
// of JSON about the table and then the table. A push writes both in one transaction.
type Routes struct {
	r      *Registry
	prefix string
}

// Routes returns the route tables of the registry's project.
func (r *Registry) Routes() *Routes { return &Routes{r: r, prefix: r.cfg.Project + "/routes/"} }

func (t *Routes) head() string { return t.prefix + "head" }

func (t *Routes) key(version int64) string { return fmt.Sprintf("%sv/%012d", t.prefix, version) }

// Push stores a table as the newest version and returns it. from is the newest version that the pusher knows: when it is not the
// newest the error wraps ErrRoutesMoved and nothing is stored. A from of -1 pushes whatever is there, also when that is damaged. Pushing what is the newest
// table already stores nothing and returns that. Of the versions, [KeptRoutes] are kept.
func (t *Routes) Push(ctx context.Context, yaml []byte, from int64, comment, author string) (RouteDoc, error) {
	doc := RouteDoc{YAML: yaml, Comment: comment, Author: author}
	if err := doc.check(); err != nil {
		return RouteDoc{}, err
	}
	return t.store(ctx, from, doc)
}

// Rollback stores the table of an older version as the newest one. It returns an error that wraps ErrNoRoutes when that version is
// not there, or no longer; when it is the newest table already nothing is stored and that is returned.
func (t *Routes) Rollback(ctx context.Context, version int64, comment, author string) (RouteDoc, error) {
	old, err := t.Pull(ctx, version)
	if err != nil {
		return RouteDoc{}, err
	}
	doc := RouteDoc{YAML: old.YAML, Comment: comment, Author: author, RolledBack: version}
	if err := doc.check(); err != nil {
		return RouteDoc{}, err
	}
	return t.store(ctx, -1, doc)
}

// Pull returns a version; 0 is the newest.
func (t *Routes) Pull(ctx context.Context, version int64) (RouteDoc, error) {
	client, err := t.r.connect(ctx)
	if err != nil {
		return RouteDoc{}, err
	}
	if version == 0 {
		doc, _, err := t.newest(ctx, client)
		switch {
		case err != nil:
			return RouteDoc{}, err
		case doc.Version == 0:
			return RouteDoc{}, fmt.Errorf("pull routes: none was ever pushed: %w", ErrNoRoutes)
		}
		return doc, nil
	}
	doc, err := t.read(ctx, client, version)
	if err != nil {
		return RouteDoc{}, fmt.Errorf("pull routes: %w", err)
	}
	return doc, nil
}

// List returns the versions that are kept, the newest first. One that is damaged has only its Version; keys that name none are left
// out.
func (t *Routes) List(ctx context.Context) ([]RouteDoc, error) {
	client, err := t.r.connect(ctx)
	if err != nil {
		return nil, err
	}
	versions, err := t.versions(ctx, client)
	if err != nil {
		return nil, err
	}
	list := make([]RouteDoc, 0, len(versions))
	for _, version := range versions {
		doc, err := t.read(ctx, client, version)
		switch {
		case errors.Is(err, ErrNoRoutes): // trimmed meanwhile
			continue
		case errors.Is(err, ErrRoutesDamaged):
			doc = RouteDoc{Version: version}
		case err != nil:
			return nil, fmt.Errorf("list routes: %w", err)
		}
		list = append(list, doc)
	}
	return list, nil
}

// Watch calls fn with the newest version, then again with each newer one, from the calling goroutine; versions that are replaced
// at once may be left out. When there is none it is called with the zero RouteDoc, also when there was one before; when the
// newest is damaged or missing, with an error, which is logged and counted in Status.Ignored. It returns when ctx is done, with
// its error, or with registry.ErrClosed when the registry is closed. While etcd is away what was told last stands.
func (t *Routes) Watch(ctx context.Context, fn func(RouteDoc, error)) error {
	return t.r.poll(ctx, "routes", t.head(), func(resp *clientv3.GetResponse) error {
		if len(resp.Kvs) == 0 {
			fn(RouteDoc{}, nil)
			return nil
		}
		version, err := parseVersion(string(resp.Kvs[0].Value))
		if err != nil {
			err = fmt.Errorf("%w: key %q: %w", ErrRoutesDamaged, t.head(), err)
		}
		var doc RouteDoc
		if err == nil {
			if doc, err = t.Pull(ctx, version); errors.Is(err, ErrNoRoutes) {
				err = t.headless(version, err)
			}
		}
		switch {
		case errors.Is(err, ErrRoutesDamaged), errors.Is(err, ErrNoRoutes):
			t.r.ignore(fmt.Sprintf("%s@%d", t.head(), resp.Kvs[0].ModRevision), err)
			fn(RouteDoc{}, err)
		case err != nil: // etcd went away in between
			return err
		default:
			fn(doc, nil)
		}
		return nil
	})
}

// store makes doc the newest version.
func (t *Routes) store(ctx context.Context, from int64, doc RouteDoc) (RouteDoc, error) {
	client, err := t.r.connect(ctx)
	if err != nil {
		return RouteDoc{}, err
	}
	for {
		now, mod, err := t.newest(ctx, client)
		damaged := errors.Is(err, ErrRoutesDamaged)
		switch {
		case err != nil && !damaged, damaged && from >= 0 && now.Version == 0:
			return RouteDoc{}, err
		case from >= 0 && from != now.Version:
			return RouteDoc{}, fmt.Errorf("push routes from version %d, the newest is %d: %w", from, now.Version, ErrRoutesMoved)
		case !damaged && now.Version > 0 && now.Digest == digest(doc.YAML):
			return now, nil
		}
		kept, err := t.versions(ctx, client)
		if err != nil {
			return RouteDoc{}, err
		}
		if len(kept) > 0 { // the head may be lost, or name what never was
			now.Version = kept[0]
		}
		doc.Version, doc.Size, doc.Digest, doc.At = now.Version+1, len(doc.YAML), digest(doc.YAML), time.Now().UTC().Truncate(time.Second)
		done, err := t.commit(ctx, client, doc, mod)
		if err != nil || done {
			return doc, err
		}
	}
}

// commit writes doc and makes it the newest, if the head was last changed at mod, and trims the history.
func (t *Routes) commit(ctx context.Context, client *clientv3.Client, doc RouteDoc, mod int64) (done bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, t.r.timeout())
	defer cancel()
	value, err := doc.MarshalText()
	if err != nil {
		return false, err
	}
	resp, err := client.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(t.head()), "=", mod)).
		Then(
			clientv3.OpPut(t.key(doc.Version), string(value)),
			clientv3.OpPut(t.head(), strconv.FormatInt(doc.Version, 10)),
			clientv3.OpDelete(t.prefix+"v/", clientv3.WithRange(t.key(max(doc.Version-KeptRoutes+1, 0)))),
		).Commit()
	if err != nil {
		return false, fmt.Errorf("push routes: %w", err)
	}
	return resp.Succeeded, nil
}

// versions returns the numbers of the versions that are kept, the newest first.
func (t *Routes) versions(ctx context.Context, client *clientv3.Client) ([]int64, error) {
	keys, err := t.r.get(ctx, client, t.prefix+"v/", clientv3.WithPrefix(), clientv3.WithKeysOnly(), clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend))
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	list := make([]int64, 0, len(keys.Kvs))
	for _, kv := range keys.Kvs {
		key := string(kv.Key)
		version, err := parseVersion(strings.TrimLeft(strings.TrimPrefix(key, t.prefix+"v/"), "0"))
		if err == nil && t.key(version) == key {
			list = append(list, version)
		}
	}
	return list, nil
}

// newest returns the newest version, the zero RouteDoc when there is none, and when the head was last changed. When the error wraps
// ErrRoutesDamaged that is there too, and of the version its number, unless even that cannot be known.
func (t *Routes) newest(ctx context.Context, client *clientv3.Client) (doc RouteDoc, mod int64, err error) {
	resp, err := t.r.get(ctx, client, t.head())
	if err != nil {
		return RouteDoc{}, 0, fmt.Errorf("read routes: %w", err)
	}
	if len(resp.Kvs) == 0 {
		return RouteDoc{}, 0, nil
	}
	mod = resp.Kvs[0].ModRevision
	version, err := parseVersion(string(resp.Kvs[0].Value))
	if err != nil {
		return RouteDoc{}, mod, fmt.Errorf("read routes: key %q: %w: %w", t.head(), err, ErrRoutesDamaged)
	}
	doc, err = t.read(ctx, client, version)
	switch {
	case errors.Is(err, ErrNoRoutes):
		return RouteDoc{}, mod, fmt.Errorf("read routes: %w", t.headless(version, ErrRoutesDamaged))
	case errors.Is(err, ErrRoutesDamaged):
		doc.Version = version
	}
	if err != nil {
		return doc, mod, fmt.Errorf("read routes: %w", err)
	}
	return doc, mod, nil
}

// headless says which key names a version that is not there.
func (t *Routes) headless(version int64, err error) error {
	return fmt.Errorf("key %q names version %d, which is not there: %w", t.head(), version, err)
}

// ErrRoutesDamaged is returned for a version that somebody has spoilt.
var ErrRoutesDamaged = errors.New("it is damaged")

func (t *Routes) read(ctx context.Context, client *clientv3.Client, version int64) (RouteDoc, error) {
	resp, err := t.r.get(ctx, client, t.key(version))
	if err != nil {
		return RouteDoc{}, err
	}
	if len(resp.Kvs) == 0 {
		return RouteDoc{}, fmt.Errorf("version %d: %w", version, ErrNoRoutes)
	}
	return parseRouteDoc(version, resp.Kvs[0])
}

func parseRouteDoc(version int64, kv *mvccpb.KeyValue) (RouteDoc, error) {
	var doc RouteDoc
	err := doc.UnmarshalText(kv.Value)
	if err == nil && doc.Version != version {
		err = fmt.Errorf("%w: it says that it is version %d", ErrRoutesDamaged, doc.Version)
	}
	if err != nil {
		return RouteDoc{}, fmt.Errorf("version %d: %w", version, err)
	}
	return doc, nil
}

// UnmarshalText reads what MarshalText has written, and says when it was damaged since. It keeps no part of text.
func (doc *RouteDoc) UnmarshalText(text []byte) error {
	head, yaml, ok := strings.Cut(string(text), "\n")
	*doc = RouteDoc{}
	type plain RouteDoc // without UnmarshalText
	if err := json.Unmarshal([]byte(head), (*plain)(doc)); err != nil || !ok {
		return fmt.Errorf("%w: its first line says nothing of it", ErrRoutesDamaged)
	}
	doc.YAML = []byte(yaml)
	if doc.Digest != digest(doc.YAML) {
		return fmt.Errorf("%w: its checksum is another", ErrRoutesDamaged)
	}
	return nil
}

func parseVersion(s string) (int64, error) {
	v, err := strconv.ParseInt(s, 10, 64)
	if err != nil || v < 1 || v > maxVersion {
		return 0, fmt.Errorf("%.40q is no version", s)
	}
	return v, nil
}

// MarshalText returns doc as it is kept: a line of JSON about the table, then the table. The error is always nil.
func (doc RouteDoc) MarshalText() ([]byte, error) {
	type plain RouteDoc // without MarshalText
	head, err := json.Marshal(plain(doc))
	if err != nil {
		panic("BUG: encode routes: " + err.Error())
	}
	return append(append(head, '\n'), doc.YAML...), nil
}

func (doc RouteDoc) check() error {
	switch {
	case len(doc.YAML) == 0:
		return errors.New("push routes: the table is empty")
	case len(doc.YAML) > MaxRoutes:
		return fmt.Errorf("push routes: %d bytes, at most %d", len(doc.YAML), MaxRoutes)
	case !utf8.Valid(doc.YAML):
		return errors.New("push routes: the table is not UTF-8")
	case len(doc.Comment) > maxNote, len(doc.Author) > maxNote:
		return fmt.Errorf("push routes: a comment or author of more than %d bytes", maxNote)
	case !utf8.ValidString(doc.Comment), !utf8.ValidString(doc.Author):
		return errors.New("push routes: the comment or author is not UTF-8")
	}
	return nil
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
