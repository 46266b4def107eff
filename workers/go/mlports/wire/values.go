package wire

import (
	"github.com/vmihailenco/msgpack/v5"
)

// Pair is one entry of a Map.
type Pair struct {
	Key, Value any
}

// Map is a map whose order is kept and whose keys may be of any kind that the protocol allows. A received map whose
// keys are all strings comes as map[string]any instead.
type Map []Pair

// Get gives the value of a key, and whether there is one. Keys that are []byte are not found.
func (m Map) Get(key any) (any, bool) {
	for _, pair := range m {
		if _, isBytes := pair.Key.([]byte); !isBytes && pair.Key == key {
			return pair.Value, true
		}
	}
	return nil, false
}

// EncodeMsgpack is for Maps within an application's structs.
func (m Map) EncodeMsgpack(to *msgpack.Encoder) error {
	if err := to.EncodeMapLen(len(m)); err != nil {
		return err
	}
	for _, pair := range m {
		if err := to.EncodeMulti(pair.Key, pair.Value); err != nil {
			return err
		}
	}
	return nil
}

// Ext is an extension value of an application: codes 64 to 127.
type Ext struct {
	Code int8
	Data []byte
}

// EncodeMsgpack is what msgpack.Encoder calls.
func (x Ext) EncodeMsgpack(to *msgpack.Encoder) error {
	if err := to.EncodeExtHeader(x.Code, len(x.Data)); err != nil {
		return err
	}
	_, err := to.Writer().Write(x.Data)
	return err
}
