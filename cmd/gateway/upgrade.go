package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/cloudflare/tableflip"
	"github.com/coreos/go-systemd/v22/daemon"
)

// upgradeTimeout is how long a new process may take until it serves.
const upgradeTimeout = 30 * time.Second

// upgrades replaces this process by one of a new binary, which is given the listening sockets: at no moment is there nobody
// who accepts. The nil *upgrades opens sockets and hands nothing over.
type upgrades struct {
	flip  *tableflip.Upgrader
	asked chan os.Signal // SIGUSR2
}

// newUpgrades takes over what the process before hands on, if there is one. It can be called once in a process.
func newUpgrades() (*upgrades, error) {
	flip, err := tableflip.New(tableflip.Options{UpgradeTimeout: upgradeTimeout, ListenConfig: &sockets})
	if err != nil {
		return nil, fmt.Errorf("take over sockets: %w", err)
	}
	u := &upgrades{flip: flip, asked: make(chan os.Signal, 1)}
	signal.Notify(u.asked, syscall.SIGUSR2)
	return u, nil
}

// sockets are plain TCP and not Multipath TCP, Go's default, of which Linux filters no segments: a gateway that stops could not
// keep new connections out of its backlog.
var sockets = func() (c net.ListenConfig) {
	c.SetMultipathTCP(false)
	return c
}()

// listen opens a socket, or takes over that of the process before.
func (u *upgrades) listen(network, addr string) (net.Listener, error) {
	if u == nil {
		return sockets.Listen(context.Background(), network, addr)
	}
	return u.flip.Listen(network, addr)
}

// listenUnix is listen for a Unix socket, whose file gets the mode.
func (u *upgrades) listenUnix(path string, mode fs.FileMode) (net.Listener, error) {
	if u == nil {
		return listenUnix(path, mode)
	}
	return u.flip.ListenWithCallback("unix", path, func(_, path string) (net.Listener, error) { return listenUnix(path, mode) })
}

// replaced is closed when another process has taken over.
func (u *upgrades) replaced() <-chan struct{} {
	if u == nil {
		return nil
	}
	return u.flip.Exit()
}

// ready says that this process serves: to systemd, and to the one before, which then drains.
func (u *upgrades) ready(log *slog.Logger) {
	if u == nil {
		return
	}
	// First, or the process before might have ended as systemd's main one, which ends all. Without systemd there is nobody to tell, which
	// is no error.
	if _, err := daemon.SdNotify(false, "READY=1\nMAINPID="+strconv.Itoa(os.Getpid())); err != nil {
		log.Warn("systemd was not told that the gateway is ready", "err", err)
	}
	if err := u.flip.Ready(); err != nil {
		log.Warn("the process before was not told to stop", "err", err)
	}
}

// stop closes what is kept of the sockets to hand them over: a listener that is closed is open as long as that is. The files of Unix
// sockets go with it, unless another process has taken over. It may be called more than once.
func (u *upgrades) stop() {
	if u != nil {
		u.flip.Stop()
		<-u.flip.Exit()
	}
}

// run starts a new process each time it is asked to, until ctx is done or one has taken over.
func (u *upgrades) run(ctx context.Context, log *slog.Logger, embedded bool) error {
	for { // SIGUSR2 stays caught after the end: it must not end a process that drains
		select {
		case <-ctx.Done():
			u.flip.Stop()
			return nil
		case <-u.flip.Exit():
			return nil
		case <-u.asked:
			err := u.upgrade(ctx, log, embedded)
			select {
			case <-u.flip.Exit(): // this one stops: another has taken over, or it was told to
				return nil
			default:
			}
			if err != nil {
				log.Error("the upgrade failed, this process goes on", "err", err)
			}
		}
	}
}

var errEmbedded = errors.New("the etcd inside this process cannot be handed over: run etcd on its own (-etcd_addr)")

func (u *upgrades) upgrade(ctx context.Context, log *slog.Logger, embedded bool) error {
	if embedded {
		return errEmbedded
	}
	log.Info("upgrade begins")
	limit, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	if err := u.flip.WaitForParent(limit); err != nil { // one that still drains
		return fmt.Errorf("wait for the process before this one: %w", err)
	}
	if err := afterParent(limit, u.flip.Upgrade); err != nil {
		return err
	}
	log.Info("a new process has taken over, this one drains")
	return nil
}

// afterParent upgrades though tableflip may say for a moment longer that the process before has not exited: it notes that end
// only after WaitForParent has told of it. The error has no name to compare with.
func afterParent(ctx context.Context, upgrade func() error) error {
	for {
		err := upgrade()
		if err == nil || err.Error() != "parent hasn't exited" {
			return err
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}
