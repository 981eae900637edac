package main

import (
	"errors"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/goms-io/goms/pkg/console"
)

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

func TestDroppedLinesAreCounted(t *testing.T) {
	out := console.NewQueue(fullDisk{})
	out.Write([]byte("lost\n"))
	out.Close(time.Minute)
	figures := prometheus.NewRegistry()
	figures.MustRegister(droppedLines(out))
	all, err := figures.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 1 || all[0].GetName() != "goms_log_dropped_total" || all[0].GetMetric()[0].GetCounter().GetValue() != 1 {
		t.Errorf("figures = %v, want goms_log_dropped_total 1", all)
	}
}
