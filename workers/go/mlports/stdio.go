package mlports

import (
	"os"
	"os/signal"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
)

const stacksSize = 1 << 20 // bytes

// The program's own packages are initialised behind this one, and what they print prints on standard error.
func init() {
	if os.Getenv("MLPORTS_WORKER") == "1" {
		_, _, _ = takeChannel()
	}
}

type channel struct {
	in, out *os.File
	err     error
}

// taken says that the streams and signals are the protocol's by now.
var taken atomic.Bool

var takenOnce = sync.OnceValue(take)

// takeChannel gives the streams of frames, which the program's standard streams are from then on no more.
func takeChannel() (in, out *os.File, err error) {
	c := takenOnce()
	return c.in, c.out, c.err
}

func take() (c channel) {
	// At a terminal it reaches every process: what it means is for the orchestrator to decide.
	signal.Ignore(os.Interrupt)
	tellStacks()
	taken.Store(true)
	fd34 := os.Getenv("MLPORTS_TRANSPORT") == "fd34"
	os.Unsetenv("MLPORTS_WORKER") // programs that the worker starts are not workers
	os.Unsetenv("MLPORTS_TRANSPORT")
	if fd34 {
		syscall.CloseOnExec(3)
		syscall.CloseOnExec(4)
		return channel{polled(3, "frames in"), os.NewFile(4, "frames out"), nil}
	}
	in, err := moved(0)
	if err != nil {
		return channel{err: err}
	}
	c.in = polled(in, "frames in")
	// Not for order's sake alone: a broken pipe on descriptor 1 ends a Go program whatever it does about SIGPIPE.
	out, err := moved(1)
	if err != nil {
		return channel{err: err}
	}
	c.out = os.NewFile(uintptr(out), "frames out")
	null, err := os.OpenFile(os.DevNull, os.O_RDONLY, 0)
	if err != nil {
		return channel{err: err}
	}
	defer null.Close()
	if c.err = replace(int(null.Fd()), 0); c.err == nil {
		c.err = replace(2, 1)
	}
	return c
}

// moved is a copy of a descriptor that programs which this one starts do not inherit.
func moved(descriptor int) (int, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	copied, err := syscall.Dup(descriptor)
	if err != nil {
		return 0, os.NewSyscallError("dup", err)
	}
	syscall.CloseOnExec(copied)
	return copied, nil
}

// polled is a file whose reader waits with the other goroutines. In a read that blocks it would hold a thread, and
// each return from that costs the runtime more than a quick call does. Where it cannot be had, a read blocks.
func polled(descriptor int, name string) *os.File {
	_ = syscall.SetNonblock(descriptor, true)
	return os.NewFile(uintptr(descriptor), name)
}

// tellStacks writes all goroutines' stacks to standard error whenever the orchestrator asks for them.
func tellStacks() {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR2)
	go func() {
		for range asked {
			stacks := make([]byte, stacksSize)
			os.Stderr.Write(stacks[:runtime.Stack(stacks, true)])
		}
	}()
}

func atTerminal() bool {
	if taken.Load() || os.Getenv("MLPORTS_TRANSPORT") == "fd34" {
		return false
	}
	input, err := os.Stdin.Stat()
	if err != nil || input.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err == nil && !os.SameFile(input, null)
}
