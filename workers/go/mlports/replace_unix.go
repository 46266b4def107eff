//go:build unix && !linux

package mlports

import (
	"os"
	"syscall"
)

// replace makes the descriptor `to` a copy of `from`.
func replace(from, to int) error {
	return os.NewSyscallError("dup2", syscall.Dup2(from, to))
}
