package registry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
)

const (
	// fileVersion is the version of the form that files are written in, and the newest that can be read.
	fileVersion = 1
	// filePause is the least time between two writes.
	filePause = time.Second
	// maxFile bounds the file, in bytes: a hundred thousand nodes with all that they may say of themselves.
	maxFile = 512 << 20
	// sumMark begins the last line of a file, the checksum of all lines before it.
	sumMark = "sha256 "
)

// File keeps the last good set of nodes on disk, for a process that starts while the store is away. It holds what the store says
// of nodes and no secret; others cannot read it. All methods are safe for concurrent use.
//
// A file is replaced as a whole (written aside, synced, renamed), so that a full disk or a crash leaves the old one. It is lines of
// text: a head, one line for each key and its value as they are in the store, and a checksum.
type File struct {
	path, project string
	log           *slog.Logger

	kick chan struct{} // holds one item when there is something to write

	mu      sync.Mutex // guards what follows
	pending *Saved
	failing bool // the last write failed, which was logged
}

// Saved is what a [File] holds.
type Saved struct {
	Snapshot  Snapshot
	Overrides []Override
	// At is when it was known to be true, by the clock of the machine that wrote it.
	At time.Time
}

// fileHead is the first line of a file.
type fileHead struct {
	Version  int       `json:"version"`
	Project  string    `json:"project"`
	Revision int64     `json:"revision"`
	At       time.Time `json:"time"`
	Lines    int       `json:"lines"`
}

// NewFile returns a File that does no I/O yet. Its directory is made when it is written. A nil log discards.
func NewFile(path, project string, log *slog.Logger) *File {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &File{path: path, project: project, log: log, kick: make(chan struct{}, 1)}
}

// Load reads the file. When there is none the error is fs.ErrNotExist. A file that cannot be used, because it is damaged, too large, of another
// project or of a newer version, is moved aside (its name with ".bad" behind it) and the error says what is wrong with it.
func (f *File) Load() (Saved, error) {
	cleanAside(f.path)
	b, err := ReadFile(f.path, maxFile)
	if err != nil && !errors.Is(err, ErrTooLarge) {
		return Saved{}, fmt.Errorf("read the saved nodes: %w", err)
	}
	var s Saved
	if err == nil {
		s, err = f.decode(b)
	}
	if err == nil {
		return s, nil
	}
	return Saved{}, fmt.Errorf("read the saved nodes: %w", SetAside(f.path, err))
}

// Keep has Run write s, unless something newer comes before it does. It does not wait.
func (f *File) Keep(s Saved) {
	f.mu.Lock()
	f.pending = &s
	f.mu.Unlock()
	select {
	case f.kick <- struct{}{}:
	default:
	}
}

// Run writes what is to be kept, at most once a second, until ctx is done, and then what is left. Trouble is logged when it begins
// and when it ends; what could not be written is tried again with the next change, and every ten seconds.
func (f *File) Run(ctx context.Context) {
	retry := time.NewTicker(10 * filePause)
	defer retry.Stop()
	for {
		select {
		case <-f.kick:
		case <-retry.C:
		case <-ctx.Done():
			f.flush()
			return
		}
		f.flush()
		pause := time.NewTimer(filePause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
		}
	}
}

// flush writes what is pending.
func (f *File) flush() {
	f.mu.Lock()
	s := f.pending
	f.pending = nil
	f.mu.Unlock()
	if s == nil {
		return
	}
	err := ReplaceFile(f.path, f.encode(*s))
	f.mu.Lock()
	was := f.failing
	f.failing = err != nil
	if err != nil && f.pending == nil {
		f.pending = s
	}
	f.mu.Unlock()
	switch {
	case err != nil && !was:
		f.log.Error("the nodes cannot be saved, the last file stays", "err", err)
	case err == nil && was:
		f.log.Info("the nodes are saved again", "path", f.path)
	}
}

func (f *File) encode(s Saved) []byte {
	head, err := json.Marshal(fileHead{
		Version: fileVersion, Project: f.project, Revision: s.Snapshot.Revision, At: s.At.UTC(),
		Lines: len(s.Snapshot.Nodes) + len(s.Overrides),
	})
	if err != nil {
		panic("BUG: encode saved nodes: " + err.Error())
	}
	var b bytes.Buffer
	b.Write(append(head, '\n'))
	for _, n := range s.Snapshot.Nodes {
		b.WriteString(n.Key(f.project) + " " + n.Value() + "\n")
	}
	for _, o := range s.Overrides {
		b.WriteString(o.Key(f.project) + " " + o.Value() + "\n")
	}
	sum := sha256.Sum256(b.Bytes())
	b.WriteString(sumMark + hex.EncodeToString(sum[:]) + "\n")
	return b.Bytes()
}

func (f *File) decode(b []byte) (Saved, error) {
	first, _, _ := bytes.Cut(b, []byte("\n"))
	var head fileHead
	if err := json.Unmarshal(first, &head); err != nil {
		return Saved{}, fmt.Errorf("it is damaged: %w", err)
	}
	if head.Version != fileVersion {
		return Saved{}, fmt.Errorf("version %d, this program reads %d", head.Version, fileVersion)
	}
	at := bytes.LastIndex(b, []byte("\n"+sumMark))
	if at < 0 {
		return Saved{}, errors.New("it is damaged: its end is missing")
	}
	sum := sha256.Sum256(b[:at+1])
	if string(b[at+1:]) != sumMark+hex.EncodeToString(sum[:])+"\n" {
		return Saved{}, errors.New("it is damaged: the checksum is another")
	}
	if head.Project != f.project {
		return Saved{}, fmt.Errorf("it is of project %q, this is %q", head.Project, f.project)
	}
	return f.decodeLines(head, string(b[len(first)+1:at+1]))
}

func (f *File) decodeLines(head fileHead, text string) (Saved, error) {
	out := Saved{At: head.At}
	var nodes []Node
	lines := 0
	for line := range strings.Lines(text) {
		lines++
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if strings.HasPrefix(key, OverridePrefix(f.project)) {
			o, err := ParseOverride(f.project, key, value)
			if err != nil {
				return Saved{}, err
			}
			out.Overrides = append(out.Overrides, o)
			continue
		}
		n, err := Parse(f.project, key, value)
		if err != nil {
			return Saved{}, err
		}
		nodes = append(nodes, n)
	}
	if lines != head.Lines {
		return Saved{}, fmt.Errorf("it is damaged: %d lines, its head says %d", lines, head.Lines)
	}
	out.Snapshot = NewSnapshot(head.Revision, nodes)
	return out, nil
}
