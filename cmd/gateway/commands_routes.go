package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/pflag"

	"github.com/goms-io/goms/pkg/config"
	"github.com/goms-io/goms/pkg/project"
	"github.com/goms-io/goms/pkg/registry/etcd"
	"github.com/goms-io/goms/pkg/route"
)

// routesUsage is how gateway routes is used.
const routesUsage = `want one of:
  gateway routes push <file or directory> [-m comment] [-from version] [-force] [flags]
  gateway routes pull [version] [flags]
  gateway routes list [flags]
  gateway routes diff <file or directory> [flags]   exit code 0: the same, 1: they differ, 2 or 3: an error
  gateway routes rollback <version> [-m comment] [flags]`

// anyVersion is a push from whatever is there.
const anyVersion = -1

// routesCommand is one use of gateway routes.
type routesCommand struct {
	routes  *etcd.Routes
	prefix  string // of all routes, by the configuration
	stdout  io.Writer
	comment string
	from    int64
	force   bool
}

// routesVerbs are the commands and what follows them, at least and at most.
var routesVerbs = map[string]struct {
	least, most int
	run         func(*routesCommand, context.Context, []string) error
}{
	"push":     {1, 1, (*routesCommand).push},
	"pull":     {0, 1, (*routesCommand).pull},
	"list":     {0, 0, (*routesCommand).list},
	"diff":     {1, 1, (*routesCommand).diff},
	"rollback": {1, 1, (*routesCommand).rollback},
}

// exitTrouble is the exit code of a diff that could not be made, as diff(1) has it.
const exitTrouble = 2

// differs is what diff returns when it found differences, which is no trouble.
type differs struct{ text string }

func (d *differs) Error() string { return d.text }

// routesCommands changes and shows the route table in etcd. It needs no gateway.
func routesCommands(ctx context.Context, f *flags, args []string, stdout io.Writer) error {
	words, rest := splitWords(args)
	err := runRoutes(ctx, f, words, rest, stdout)
	if _, found := errors.AsType[*differs](err); !found && len(words) > 0 && words[0] == "diff" && project.ExitCode(err) == project.ExitFailure {
		return &project.CodeError{Code: exitTrouble, Err: err}
	}
	return err
}

// runRoutes carries out one command: its words, and the flags behind them.
func runRoutes(ctx context.Context, f *flags, words, rest []string, stdout io.Writer) error {
	c := routesCommand{stdout: stdout}
	f.set.StringVarP(&c.comment, "comment", "m", "", "`text` that goes with a push or rollback")
	f.set.Int64Var(&c.from, "from", anyVersion, "push: the `version` the file was made from, refused if it is not the newest any more (default: the newest)")
	f.set.Lookup("from").DefValue = "0" // so that it is not shown
	f.set.BoolVar(&c.force, "force", false, "push: also a table without any route, or over one that is damaged")
	conf, err := load(f, rest)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		printUsage(stdout, routesUsage, f)
		return nil
	case len(words) == 0 && len(rest) > 0:
		return routesMisuse(commandFirst)
	case len(words) == 0:
		return routesMisuse("")
	}
	verb, known := routesVerbs[words[0]]
	switch n := len(words) - 1; {
	case !known:
		return routesMisuse("unknown command %q%s", words[0], suggestRoutes(words[0]))
	case n < verb.least || n > verb.most:
		return routesMisuse("%q cannot be understood", strings.Join(words, " "))
	case err != nil:
		return err
	case f.set.Changed("from") && c.from < 0:
		return routesMisuse("-from %d is no version", c.from)
	}
	reg, err := registryOf(conf)
	if err != nil {
		return err
	}
	defer reg.Close() //nolint:errcheck // nothing is pending
	ctx, cancel := context.WithTimeout(ctx, nodeTimeout)
	defer cancel()
	c.routes, c.prefix = reg.Routes(), conf.Gateway.Prefix
	err = verb.run(&c, ctx, words[1:])
	if errors.Is(err, etcd.ErrNoRoutes) {
		return fmt.Errorf("%w (gateway routes list shows what there is)", err)
	}
	if errors.Is(err, etcd.ErrRoutesDamaged) && words[0] != "push" { // which says more
		return fmt.Errorf("%w (gateway routes list shows the versions there are, rollback mends it with one)", err)
	}
	return whereEtcd(conf, err)
}

func suggestRoutes(verb string) string {
	if near := config.Suggest(verb, []string{"push", "pull", "list", "diff", "rollback"}); near != "" {
		return fmt.Sprintf(" (did you mean %q?)", near)
	}
	return ""
}

func routesMisuse(format string, args ...any) error {
	text := routesUsage
	if format != "" {
		text = fmt.Sprintf(format, args...) + "; " + text
	}
	return &config.UsageError{Err: errors.New(text)}
}

func parseVersion(word string) (int64, error) {
	version, err := strconv.ParseInt(word, 10, 64)
	if err != nil || version < 1 {
		return 0, routesMisuse("%.40q is no version", word)
	}
	return version, nil
}

// newest returns the newest table; its version is 0 when there is none.
func (c *routesCommand) newest(ctx context.Context) (etcd.RouteDoc, route.Services, error) {
	doc, err := c.routes.Pull(ctx, 0)
	if errors.Is(err, etcd.ErrNoRoutes) {
		return etcd.RouteDoc{}, nil, nil
	}
	if err != nil {
		return doc, nil, err
	}
	services, err := parseRoutes(versionName(doc.Version), doc.YAML)
	return doc, services, err
}

// versionName is what complaints call a stored table.
func versionName(version int64) string { return fmt.Sprintf("routes of etcd, version %d", version) }

func (c *routesCommand) push(ctx context.Context, words []string) error {
	services, err := readRoutes(words[0])
	if err != nil {
		return err
	}
	if countRoutes(services) == 0 && !c.force {
		return &project.ConfigError{Key: "services", Msg: fmt.Sprintf("%s has no route, and would take all away (-force, if that is meant)", words[0])}
	}
	text, err := formatRoutes(services)
	if err != nil {
		return err
	}
	digest, err := digestOf(c.prefix, text)
	if err != nil {
		return err
	}
	now, before, err := c.newest(ctx)
	switch damaged := unreadable(err); {
	case damaged && !c.force:
		return fmt.Errorf("%w (gateway routes rollback, to a version that is well, comes first; or push -force)", err)
	case err != nil && !damaged:
		return err
	case !damaged && c.from == anyVersion:
		c.from = now.Version
	}
	diff := diffRoutes(c.prefix, before, services)
	if err == nil && now.Version > 0 && diff.none() {
		c.unchanged(now, digest)
		return nil
	}
	doc, err := c.routes.Push(ctx, text, c.from, c.comment, whoAmI())
	if errors.Is(err, etcd.ErrRoutesMoved) {
		return fmt.Errorf("%w (gateway routes diff %s shows what this push would undo; merge it, then push again)", err, words[0])
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(c.stdout, "version %d, routes %s: %s\n", doc.Version, digest, diff)
	return nil
}

// unreadable says that etcd was read, and what it holds is no table.
func unreadable(err error) bool {
	_, bad := errors.AsType[*config.Errors](err)
	return bad || errors.Is(err, etcd.ErrRoutesDamaged)
}

func (c *routesCommand) unchanged(doc etcd.RouteDoc, digest string) {
	fmt.Fprintf(c.stdout, "nothing has changed: version %d, routes %s\n", doc.Version, digest)
}

func (c *routesCommand) pull(ctx context.Context, words []string) error {
	version := int64(0)
	if len(words) == 1 {
		var err error
		if version, err = parseVersion(words[0]); err != nil {
			return err
		}
	}
	doc, err := c.routes.Pull(ctx, version)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.stdout, "# Version %d of the routes. Push it back changed with: -from %d\n%s", doc.Version, doc.Version, doc.YAML)
	return nil
}

func (c *routesCommand) list(ctx context.Context, _ []string) error {
	docs, err := c.routes.List(ctx)
	if err != nil {
		return err
	}
	now, err := c.routes.Pull(ctx, 0)
	if err != nil && !errors.Is(err, etcd.ErrNoRoutes) && !unreadable(err) {
		return err
	}
	w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "VERSION\tROUTES\tBY\tAT\tCOMMENT")
	for _, doc := range docs {
		mark := ""
		if doc.Version == now.Version {
			mark = "*"
		}
		digest, err := digestOf(c.prefix, doc.YAML)
		if err != nil || doc.Digest == "" {
			digest = "damaged"
		}
		comment := doc.Comment
		if doc.RolledBack > 0 {
			comment = strings.TrimSpace(fmt.Sprintf("rollback to %d %s", doc.RolledBack, comment))
		}
		fmt.Fprintf(w, "%d%s\t%s\t%s\t%s\t%s\n", doc.Version, mark, digest, dash(oneLine(doc.Author)), shortTime(doc.At), dash(oneLine(comment)))
	}
	return w.Flush()
}

// oneLine keeps what others wrote from breaking the list.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if strconv.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
}

func (c *routesCommand) diff(ctx context.Context, words []string) error {
	services, err := readRoutes(words[0])
	if err != nil {
		return err
	}
	now, before, err := c.newest(ctx)
	if err != nil {
		return err
	}
	diff := diffRoutes(c.prefix, before, services)
	for _, line := range diff.lines {
		fmt.Fprintln(c.stdout, line)
	}
	switch {
	case diff.none():
		return nil
	case now.Version == 0:
		return &differs{fmt.Sprintf("%s differs, nothing was pushed yet: %s", words[0], diff)}
	}
	return &differs{fmt.Sprintf("%s differs from version %d: %s", words[0], now.Version, diff)}
}

func (c *routesCommand) rollback(ctx context.Context, words []string) error {
	version, err := parseVersion(words[0])
	if err != nil {
		return err
	}
	old, err := c.routes.Pull(ctx, version)
	if err != nil {
		return err
	}
	digest, err := digestOf(c.prefix, old.YAML)
	if err != nil {
		return err
	}
	services, err := parseRoutes(versionName(version), old.YAML)
	if err != nil {
		return err
	}
	now, before, err := c.newest(ctx)
	if err != nil && !unreadable(err) { // away from one that cannot be read is what it is for
		return err
	}
	doc, err := c.routes.Rollback(ctx, version, c.comment, whoAmI())
	if err != nil {
		return err
	}
	if doc.Version == now.Version {
		c.unchanged(doc, digest)
		return nil
	}
	fmt.Fprintf(c.stdout, "version %d, routes %s, as version %d: %s\n", doc.Version, digest, version, diffRoutes(c.prefix, before, services))
	return nil
}
