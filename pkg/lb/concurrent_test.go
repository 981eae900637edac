package lb_test

import (
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"

	"github.com/goms-io/goms/pkg/lb"
)

func TestPickSpreadsOverConcurrentCallers(t *testing.T) {
	const workers, each = 8, 7000
	p := pool(t, "a*5 b c")
	var mu sync.Mutex
	total := map[string]int{}
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			mine := map[string]int{}
			for range each {
				n := p.Pick(nil, 0)
				n.Begin()
				mine[n.ID()]++
				n.End()
				p.Succeeded(n)
				p.Done(n)
			}
			mu.Lock()
			defer mu.Unlock()
			for id, n := range mine {
				total[id] += n
			}
		})
	}
	wg.Wait()
	// One counter hands out turns, so whole rounds are shared out exactly.
	want := map[string]int{"a": 40_000, "b": 8_000, "c": 8_000}
	if !reflect.DeepEqual(total, want) {
		t.Errorf("picks = %v, want %v", total, want)
	}
	s := p.Status()
	if s.RequestFinish != workers*each {
		t.Errorf("RequestFinish = %d, want %d", s.RequestFinish, workers*each)
	}
	for _, n := range s.Nodes {
		if n.InFlight != 0 || int(n.Requests) != want[n.ID] || n.Failures != 0 {
			t.Errorf("node %s = %+v, want %d requests and nothing else", n.ID, n, want[n.ID])
		}
	}
}

func TestUpdateUnderConcurrentPicks(t *testing.T) {
	var mu sync.Mutex
	live := map[int]bool{} // Data made and not dropped
	next := 0
	p := lb.NewPool("user", lb.Options{
		NewData: func(*lb.Node) any {
			mu.Lock()
			defer mu.Unlock()
			next++
			live[next] = true
			return next
		},
		DropData: func(data any) {
			mu.Lock()
			defer mu.Unlock()
			if !live[data.(int)] {
				t.Errorf("data %v dropped twice", data)
			}
			delete(live, data.(int))
		},
	})
	p.Update(specs(t, "keep"))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var finished [4]int
	for i := range finished {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				n := p.Pick(nil, 0)
				if n == nil {
					t.Error("Pick(nil) = nil, want a node: one is always there")
					return
				}
				n.Begin()
				if n.Data == nil {
					t.Errorf("node %s is visible without data", n.ID())
				}
				if second := p.Pick([]*lb.Node{n}, 0); second == n {
					t.Errorf("Pick(tried) = %s, which was tried", n.ID())
				}
				if n.ID() != "keep" && i%2 == 0 {
					p.Failed(n)
				} else {
					p.Succeeded(n)
				}
				p.Status()
				n.End()
				p.Done(n)
				finished[i]++
			}
		})
	}
	random := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		text := "keep"
		for _, id := range []string{"a", "b", "c", "d", "e"} {
			switch random.IntN(4) {
			case 0:
				text += " " + id
			case 1:
				text += " " + id + "*3"
			case 2:
				text += " " + id + "!"
			}
		}
		p.Update(specs(t, text))
	}
	close(stop)
	wg.Wait()
	want := 0
	for _, n := range finished {
		want += n
	}
	if got := p.Status().RequestFinish; int(got) != want {
		t.Errorf("RequestFinish = %d, want %d", got, want)
	}
	for _, n := range p.Nodes() {
		if n.InFlight() != 0 {
			t.Errorf("node %s has %d in flight, want 0", n.ID(), n.InFlight())
		}
	}
	if len(live) != p.Len() {
		t.Errorf("%d data live, want %d", len(live), p.Len())
	}
}
