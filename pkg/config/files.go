package config

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxFile bounds one file, in bytes.
const maxFile = 4 << 20

// readPath returns the merged tree of a file or directory, nil for an empty path
// and where nothing could be read. merge says for which top-level keys the entries
// of several files are put together.
func readPath(path string, c *complaints, merge func(key string) bool) *tree {
	if path == "" {
		return nil
	}
	info, err := os.Stat(path)
	if err != nil {
		c.fatal(&Error{File: path, Msg: cause(err).Error()})
		return nil
	}
	if !info.IsDir() {
		return readFile(path, c)
	}
	files := listDir(path, c)
	root := &tree{kind: mapKind, place: place{file: path}}
	for _, file := range files {
		if t := readFile(file, c); t != nil {
			mergeInto(root, t, c, merge)
		}
	}
	return root
}

// listDir returns the YAML files of a directory, sorted by name. Hidden files are
// left out: editors and mounted volumes keep their own there.
func listDir(dir string, c *complaints) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		c.fatal(&Error{File: dir, Msg: cause(err).Error()})
		return nil
	}
	var files []string
	for _, e := range entries {
		ext := filepath.Ext(e.Name())
		if ext != ".yml" && ext != ".yaml" || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		file := filepath.Join(dir, e.Name())
		info, err := os.Stat(file) // not e.Info: a file may be a symbolic link
		switch {
		case err != nil:
			c.fatal(&Error{File: file, Msg: cause(err).Error()})
		case info.IsDir():
		case !info.Mode().IsRegular():
			c.fatal(&Error{File: file, Msg: "is not a regular file"})
		default:
			files = append(files, file)
		}
	}
	if len(files) == 0 && !c.broken {
		c.fatal(&Error{File: dir, Msg: "no *.yml or *.yaml file in this directory"})
	}
	return files
}

func readFile(file string, c *complaints) *tree {
	data, err := readLimited(file, maxFile)
	if err != nil {
		c.fatal(&Error{File: file, Msg: cause(err).Error()})
		return nil
	}
	return parse(file, data, c)
}

func readLimited(file string, limit int64) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("is larger than %s", Bytes(limit))
	}
	return data, nil
}

// cause leaves out the operation and the file, which the complaint names already.
func cause(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}

// mergeInto adds the top-level keys of t to root.
func mergeInto(root, t *tree, c *complaints, merge func(key string) bool) {
	for _, e := range t.entries {
		i := root.find(e.key)
		if i < 0 {
			root.entries = append(root.entries, e)
			continue
		}
		first := &root.entries[i]
		if !merge(e.key) || !first.value.mergeable() || !e.value.mergeable() {
			c.add(e.at(e.key, duplicate(first.place)), e.key)
			continue
		}
		first.value = mergeMaps(first.value, e.value, e.key, c)
	}
}

func (t *tree) mergeable() bool { return t.kind == mapKind || t.kind == nullKind }

func mergeMaps(a, b *tree, path string, c *complaints) *tree {
	if a.kind == nullKind {
		return b
	}
	seen := make(map[string]place, len(a.entries)+len(b.entries))
	for _, e := range a.entries {
		seen[e.key] = e.place
	}
	for _, e := range b.entries {
		if first, ok := seen[e.key]; ok {
			sub := join(path, e.key)
			c.add(e.at(sub, duplicate(first)), sub)
			continue
		}
		a.entries = append(a.entries, e)
	}
	return a
}

// Digest returns what tells one content of path, a file or a directory as for Load, from another: the names and the
// contents of all its files. An empty path has a digest too. The error names the file that could not be read.
func Digest(path string) (string, error) {
	h := sha256.New()
	files := []string{path}
	if info, err := os.Stat(path); path == "" {
		files = nil
	} else if err != nil {
		return "", fmt.Errorf("read configuration: %w", err)
	} else if info.IsDir() {
		var c complaints
		if files = listDir(path, &c); c.broken {
			return "", fmt.Errorf("read configuration: %w", c.err())
		}
	}
	for _, file := range files {
		data, err := readLimited(file, maxFile)
		if err != nil {
			return "", fmt.Errorf("read configuration %q: %w", file, cause(err))
		}
		fmt.Fprintf(h, "%q %d\n", file, len(data))
		h.Write(data)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
