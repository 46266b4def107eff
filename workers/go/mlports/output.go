package mlports

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"mlports/wire"
)

const (
	flushSize   = 64 << 10 // bytes
	flushAfter  = 500 * time.Microsecond
	keptEncoder = 1 << 20 // bytes
)

var errGone = errors.New("the orchestrator is gone: nobody reads what is written")

// output puts frames together and writes many at once. It may be used from any goroutine.
type output struct {
	to       io.Writer
	onFail   func(error)
	encoders sync.Pool
	ndarrays atomic.Bool
	maxFrame atomic.Int64

	pending sync.Mutex // held for a moment
	frames  []byte
	writing sync.Mutex // held while writing
	spare   []byte
	failed  error
	soon    chan struct{}
	done    chan struct{}
}

func newOutput(to io.Writer, onFail func(error)) *output {
	o := &output{to: to, onFail: onFail, soon: make(chan struct{}, 1), done: make(chan struct{})}
	o.encoders.New = func() any { return wire.NewEncoder() }
	o.maxFrame.Store(wire.DefaultMaxFrame)
	go o.flushLate()
	return o
}

// queue takes a message that the next flush writes. The error says why the message cannot be sent.
func (o *output) queue(message wire.Message) error {
	encoder := o.encoder()
	frame, err := encoder.Frame(message)
	if err != nil {
		return err
	}
	if len(frame) > flushSize {
		o.write(frame)
	} else {
		o.pending.Lock()
		o.frames = append(o.frames, frame...)
		full := len(o.frames) > flushSize
		o.pending.Unlock()
		if full {
			o.flush()
		}
	}
	if encoder.Capacity() <= keptEncoder {
		o.encoders.Put(encoder)
	}
	return nil
}

func (o *output) encoder() *wire.Encoder {
	encoder := o.encoders.Get().(*wire.Encoder)
	encoder.NDArrays, encoder.MaxFrame = o.ndarrays.Load(), int(o.maxFrame.Load())
	return encoder
}

// send writes a message, behind all that was queued.
func (o *output) send(message wire.Message) error {
	err := o.queue(message)
	o.flush()
	return err
}

// flush writes what was queued. It returns when all of that is written, by whomever.
func (o *output) flush() { o.write(nil) }

func (o *output) write(more []byte) {
	o.writing.Lock()
	defer o.writing.Unlock()
	o.pending.Lock()
	frames := o.frames
	o.frames = o.spare[:0]
	o.pending.Unlock()
	for _, data := range [][]byte{frames, more} {
		if len(data) == 0 || o.failed != nil {
			continue
		}
		if _, err := o.to.Write(data); err != nil {
			o.failed = fmt.Errorf("%w: %w", errGone, err)
			o.onFail(o.failed)
		}
	}
	o.spare = frames
}

// flushSoon lets what was queued wait a moment for company.
func (o *output) flushSoon() {
	select {
	case o.soon <- struct{}{}:
	default:
	}
}

func (o *output) flushLate() {
	for {
		select {
		case <-o.soon:
			time.Sleep(flushAfter)
			o.flush()
		case <-o.done:
			return
		}
	}
}

func (o *output) close() { close(o.done) }
