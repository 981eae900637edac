package console_test

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/goms-io/goms/pkg/console"
)

func ExampleNew() {
	log, err := console.New(os.Stdout, "text", "gateway", slog.LevelInfo)
	if err != nil {
		panic(err)
	}
	// log.Info does the same with the time of the call.
	join := slog.NewRecord(time.Date(2021, 8, 10, 11, 8, 14, 0, time.Local), slog.LevelInfo, "join", 0)
	join.Add("service", "user", "node", "192.168.125.179:9180_192.168.125.179:9080", "weight", 2)
	if err := log.Handler().Handle(context.Background(), join); err != nil {
		panic(err)
	}
	// Output: 2021/08/10 11:08:14 [user] node [192.168.125.179:9180_192.168.125.179:9080] join weight=2
}
