package load_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goms-io/goms/test/load"
	"github.com/goms-io/goms/test/ports"
)

// TestAccount has a server lose requests, cross answers and close connections, each in a way that is known, and wants exactly that told.
func TestAccount(t *testing.T) {
	var mu sync.Mutex // guards seen
	seen := map[string]int{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.URL.Query().Get("id")
		body, _ := io.ReadAll(r.Body)
		if want := map[string]string{"GET": "", "POST": "id=" + id}[r.Method]; string(body) != want {
			t.Errorf("%s %s with body %q, want %q", r.Method, id, body, want)
		}
		mu.Lock()
		seen[id]++
		mu.Unlock()
		switch {
		case strings.HasSuffix(id, "13"): // cut
			conn, _, _ := http.NewResponseController(w).Hijack()
			conn.Close()
		case strings.HasSuffix(id, "27"): // crossed
			fmt.Fprint(w, "p0000001")
		case strings.HasSuffix(id, "42"): // cut in the body
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, id)
		case strings.HasSuffix(id, "55"):
			http.Error(w, `{"reason":"no_node"}`, http.StatusServiceUnavailable)
		default:
			fmt.Fprint(w, id)
		}
	}))
	defer s.Close()
	l := &load.Load{Addrs: []string{s.Listener.Addr().String()}, Path: "/hit", Rate: 1000}
	l.Start()
	for n, _ := l.Sent(); n < 1000; n, _ = l.Sent() {
		time.Sleep(10 * time.Millisecond)
	}
	r := l.Stop()
	want := map[string]int{}
	posts := 0
	for n := range r.Requests {
		post := n%2 == 1
		if post {
			posts++
		}
		switch n % 100 {
		case 13:
			want["read answer: closed"]++
		case 27:
			want["wrong body"]++
		case 42:
			want["read body: closed"]++
		case 55:
			want["status 503 no_node"]++
		}
		if times := seen[load.ID(n, post)]; times != 1 {
			t.Errorf("%s arrived %d times, want 1", load.ID(n, post), times)
		}
	}
	if fmt.Sprint(r.Errors) != fmt.Sprint(want) {
		t.Errorf("errors = %v, want %v", r.Errors, want)
	}
	if r.Lost != want["wrong body"]+want["read answer: closed"]+want["read body: closed"]+want["status 503 no_node"] || r.WrongBody != want["wrong body"] {
		t.Errorf("lost %d, wrong %d: %v", r.Lost, r.WrongBody, want)
	}
	if len(seen) != r.Requests || len(r.Answered())+r.Lost != r.Requests {
		t.Errorf("%d requests, %d arrived, %d answered, %d lost", r.Requests, len(seen), len(r.Answered()), r.Lost)
	}
	if r.LostGET != want["read body: closed"] {
		t.Errorf("lost GETs = %d, want %d", r.LostGET, want["read body: closed"])
	}
}

// TestOpenLoop wants requests to leave at their time though none is answered, and latency to count from then.
func TestOpenLoop(t *testing.T) {
	hold := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-hold
		fmt.Fprint(w, r.URL.Query().Get("id"))
	}))
	defer s.Close()
	l := &load.Load{Addrs: []string{s.Listener.Addr().String()}, Path: "/hit", Rate: 200, Posts: -1}
	l.Start()
	for l.Elapsed() < 500*time.Millisecond {
		time.Sleep(10 * time.Millisecond)
	}
	close(hold)
	r := l.Stop()
	if r.Lost != 0 || r.Requests < 90 {
		t.Errorf("%d requests, %d lost: %v", r.Requests, r.Lost, r.Errors)
	}
	if r.Max < 400*time.Millisecond {
		t.Errorf("the longest took %v, want the whole time of the hold", r.Max)
	}
}

// TestNobodyThere wants every request told as refused.
func TestNobodyThere(t *testing.T) {
	l := &load.Load{Addrs: []string{ports.Addr(t)}, Path: "/hit", Rate: 500}
	l.Start()
	for n, _ := l.Sent(); n < 50; n, _ = l.Sent() {
		time.Sleep(10 * time.Millisecond)
	}
	if r := l.Stop(); r.Errors["connect: refused"] != r.Requests {
		t.Errorf("%d requests: %v", r.Requests, r.Errors)
	}
}
