package wire

import (
	"encoding/binary"
	"errors"
	"io"
)

const (
	DefaultMaxFrame = 64 << 20 // bytes
	MaxFrameLimit   = 1<<31 - 1

	headerSize = 4
	bufferSize = 64 << 10
)

// FrameReader takes frames out of a stream of bytes that come in any pieces.
type FrameReader struct {
	// MaxFrame is the longest payload, in bytes, that is taken.
	MaxFrame int

	source     io.Reader
	buffer     []byte
	start, end int
}

func NewFrameReader(source io.Reader) *FrameReader {
	return &FrameReader{MaxFrame: DefaultMaxFrame, source: source, buffer: make([]byte, bufferSize)}
}

// Next gives the next frame's payload, and io.EOF at a clean end. A payload that is lasting stays as it is; any other
// is overwritten by the next call. A frame that breaks the rules, or is cut short, is a *Violation.
func (r *FrameReader) Next() (payload []byte, lasting bool, err error) {
	if err := r.fill(headerSize); err != nil {
		if errors.Is(err, io.EOF) && r.start < r.end {
			err = Violated("TruncatedFrame", "the stream ended within a frame's length")
		}
		return nil, false, err
	}
	header := r.buffer[r.start : r.start+headerSize]
	length := int(binary.BigEndian.Uint32(header))
	switch {
	case length == 0:
		return nil, false, Violated("EmptyFrame", "a frame of length 0")
	case length > r.MaxFrame && printed(header[0]):
		return nil, false, Violated("StdoutPolluted", "printed text where a frame was due: %.200q", r.buffer[r.start:r.end])
	case length > r.MaxFrame:
		return nil, false, Violated("FrameTooLarge", "a frame of %d bytes, and at most %d are accepted", length, r.MaxFrame)
	}
	r.start += headerSize
	lasting = length > len(r.buffer)
	if lasting {
		payload, err = r.large(length)
	} else if err = r.fill(length); err == nil {
		payload = r.buffer[r.start : r.start+length]
		r.start += length
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = Violated("TruncatedFrame", "the stream ended within a frame of %d bytes", length)
	}
	return payload, lasting, err
}

// Buffered says whether a whole frame may be had without reading.
func (r *FrameReader) Buffered() bool {
	have := r.end - r.start
	return have >= headerSize && have-headerSize >= int(binary.BigEndian.Uint32(r.buffer[r.start:]))
}

// fill reads until so many bytes are in the buffer, which has room for them.
func (r *FrameReader) fill(count int) error {
	if r.start == r.end {
		r.start, r.end = 0, 0
	}
	for r.end-r.start < count {
		if r.start+count > len(r.buffer) {
			r.end = copy(r.buffer, r.buffer[r.start:r.end])
			r.start = 0
		}
		n, err := r.source.Read(r.buffer[r.end:])
		r.end += n
		if err != nil && r.end-r.start < count {
			return err
		}
	}
	return nil
}

// large reads a payload that does not fit into the buffer to memory of its own, so that arrays need no second copy.
func (r *FrameReader) large(length int) ([]byte, error) {
	payload := make([]byte, length)
	have := copy(payload, r.buffer[r.start:r.end])
	r.start += have
	_, err := io.ReadFull(r.source, payload[have:])
	return payload, err
}

func printed(b byte) bool {
	return b == '\t' || b == '\n' || b == '\r' || b == 0x1b || (b >= 0x20 && b <= 0x7e)
}
