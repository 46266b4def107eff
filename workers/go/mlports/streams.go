package mlports

import (
	"errors"
	"sync"

	"mlports/wire"
)

// A streamed argument is let come as far ahead of its handler as this.
const (
	firstItems = 2 // while nothing is known of their size
	mostItems  = 32
	mostBytes  = 8 << 20
)

// itemStream is what a streamed answer may still send.
type itemStream struct {
	lock   sync.Mutex
	credit int
	closed bool
	more   chan struct{} // has something when credit may have come
}

func newItemStream(credit int) *itemStream {
	return &itemStream{credit: credit, more: make(chan struct{}, 1)}
}

func (i *itemStream) allow(count int) {
	i.lock.Lock()
	i.credit += count
	i.lock.Unlock()
	wakeUp(i.more)
}

// close ends it: nothing is sent behind the answer.
func (i *itemStream) close() {
	i.lock.Lock()
	i.closed = true
	i.lock.Unlock()
	wakeUp(i.more)
}

// send passes on one item of a streamed answer, and waits for room before.
func (c *call) send(item any) error {
	for {
		if c.ctx.Err() != nil {
			return c.cause()
		}
		sent, err := c.trySend(item)
		if sent || err != nil {
			return err
		}
		select {
		case <-c.items.more:
		case <-c.ctx.Done():
		}
	}
}

func (c *call) trySend(item any) (bool, error) {
	i := c.items
	i.lock.Lock()
	defer i.lock.Unlock()
	if i.closed {
		wakeUp(i.more) // whoever else waits
		return false, Failf(FailedPrecondition, "the call of %s was answered: no item can follow", c.method.name)
	}
	if i.credit == 0 {
		return false, nil
	}
	if err := c.server.out.queue(wire.Notification{Method: "$/item", Params: []any{c.id, item}}); err != nil {
		return false, Failf(codeOf(err), "an item of %s cannot be sent: %v", c.method.name, err)
	}
	i.credit--
	if i.credit > 0 {
		c.server.out.flushSoon()
		wakeUp(i.more)
	} else {
		c.server.out.flush()
	}
	return true, nil
}

func codeOf(err error) string {
	if errors.Is(err, wire.ErrTooLarge) {
		return ResourceExhausted
	}
	return Internal
}

func wakeUp(sleepers chan struct{}) {
	select {
	case sleepers <- struct{}{}:
	default:
	}
}

type sized struct {
	value any
	size  int // bytes
}

// inputStream is a streamed argument: what came and was not taken yet, and the account of what may still come.
type inputStream struct {
	lock         sync.Mutex
	waiting      []sized
	waitingBytes int
	coming       int // items that may still come
	expected     int // bytes that the next is taken to have; 0: not known
	ended        bool
	cut          error
	more         chan struct{} // has something when there may be something to take
}

func newInputStream() *inputStream {
	return &inputStream{more: make(chan struct{}, 1)}
}

// add takes an item that came; not if it was not let come.
func (i *inputStream) add(value any, size int) bool {
	i.lock.Lock()
	defer i.lock.Unlock()
	if i.coming == 0 || i.ended {
		return false
	}
	i.coming--
	i.waiting = append(i.waiting, sized{value, size})
	i.waitingBytes += size
	i.expected = max(size, i.expected-i.expected/8, 1)
	wakeUp(i.more)
	return true
}

// end says that nothing more comes, and why if that is not the stream's own end.
func (i *inputStream) end(cut error) {
	i.lock.Lock()
	defer i.lock.Unlock()
	if !i.ended {
		i.ended, i.cut = true, cut
	}
	wakeUp(i.more)
}

// grant is how many more items may come: in large parts, and as many as seem to fit.
func (i *inputStream) grant() int {
	ahead := i.coming + len(i.waiting)
	if i.ended || ahead > mostItems/2 {
		return 0
	}
	if i.expected == 0 {
		return max(0, firstItems-ahead)
	}
	room := mostBytes - i.waitingBytes - i.coming*i.expected
	if more := min(mostItems-ahead, room/i.expected); more > 0 && more >= ahead {
		return more
	}
	if i.coming == 0 && i.waitingBytes < mostBytes {
		return 1
	}
	return 0
}

// nextInput gives the next item of the streamed argument, or says that there are no more.
func (c *call) nextInput() (item any, more bool, err error) {
	i := c.input
	for {
		if c.ctx.Err() != nil {
			return nil, false, c.cause()
		}
		i.lock.Lock()
		if len(i.waiting) > 0 {
			next := i.waiting[0]
			i.waiting = i.waiting[1:]
			i.waitingBytes -= next.size
			c.letCome()
			i.lock.Unlock()
			return next.value, true, nil
		}
		if i.ended {
			defer i.lock.Unlock()
			return nil, false, i.cut
		}
		c.letCome()
		i.lock.Unlock()
		select {
		case <-i.more:
		case <-c.ctx.Done():
		}
	}
}

// letCome gives the caller credit. Under the stream's lock, so that what it lets come is never there before it.
func (c *call) letCome() {
	if count := c.input.grant(); count > 0 {
		c.input.coming += count
		_ = c.server.out.send(wire.Notification{Method: "$/input_credit", Params: []any{c.id, count}})
	}
}
