module mlports.tests

go 1.23

require mlports v0.0.0

replace mlports => ../mlports

require (
	github.com/vmihailenco/msgpack/v5 v5.4.1 // indirect
	github.com/vmihailenco/tagparser/v2 v2.0.0 // indirect
)
