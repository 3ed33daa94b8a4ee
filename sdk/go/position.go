package cable

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"

	"google.golang.org/protobuf/encoding/protojson"

	"cable.example/go/cablev1"
)

// A PositionStore stores the position of one feed. A follower that writes to a database should write the position in
// the same transaction instead, and start after it.
type PositionStore interface {
	// Load returns the position that was saved last, or nil if none was.
	Load(ctx context.Context) (*cablev1.Position, error)
	// Save replaces the position. Once it returns nil, the position must survive a crash.
	Save(ctx context.Context, position *cablev1.Position) error
}

// MemoryPosition is a [PositionStore] whose position ends with the process. The zero value is empty.
type MemoryPosition struct {
	position atomic.Pointer[cablev1.Position]
}

// Load implements [PositionStore].
func (m *MemoryPosition) Load(context.Context) (*cablev1.Position, error) {
	return m.position.Load(), nil
}

// Save implements [PositionStore].
func (m *MemoryPosition) Save(_ context.Context, position *cablev1.Position) error {
	m.position.Store(position)
	return nil
}

// FilePosition is a [PositionStore] in the file at this path, in JSON. Its directory must exist. Each position is
// written to a new file, synced and renamed.
type FilePosition string

// Load implements [PositionStore].
func (f FilePosition) Load(context.Context) (*cablev1.Position, error) {
	text, err := os.ReadFile(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	position := &cablev1.Position{}
	if err = errors.Join(err, protojson.Unmarshal(text, position)); err != nil {
		return nil, fmt.Errorf("%s: not a position: restore the file, or delete it and take a snapshot: %w", string(f), err)
	}
	return position, nil
}

// Save implements [PositionStore].
func (f FilePosition) Save(_ context.Context, position *cablev1.Position) error {
	file, err := os.Create(string(f) + ".new")
	if err != nil {
		return err
	}
	text, err := protojson.Marshal(position)
	_, writeErr := file.Write(text)
	if err = errors.Join(err, writeErr, file.Sync(), file.Close()); err == nil {
		err = os.Rename(file.Name(), string(f))
	}
	directory, openErr := os.Open(filepath.Dir(string(f))) // The rename is on disk once the directory is synced.
	if err = errors.Join(err, openErr); err != nil {
		return err
	}
	return errors.Join(directory.Sync(), directory.Close())
}
