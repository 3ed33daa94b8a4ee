package cable

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"cable.example/go/cablev1"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

// FeedOptions has the options of a feed on the client's side. The zero value is usable.
type FeedOptions struct {
	Store          PositionStore // Saves the position. A saved one takes precedence over the start. If nil, see Feed.
	MaxCommitBytes int           // The maximum size of a commit. If 0, that of the largest that a server can send.
	OnRetry        func(error)   // Called before each retry, for example to log the error.
	consumer       string        // The name under which a mirror acknowledges positions.
}

const missedCheckpoints, maxServerFaults = 3, 5                           // In a row: the feed reconnects; it ends.
const maxCommitBytes = 500 * (5 << 19)                                    // 500 changes of 2.5 MiB.
const maxLinks = 40                                                       // As many as Linux follows.
const saveInterval, saveTimeout = 200 * time.Millisecond, 5 * time.Second // Between two saves while a feed runs, and of one.

// Feed follows the changes that match a filter, without gaps, across lost connections, failed nodes and restarts. Only a
// crash repeats messages. The iterator yields the messages of FeedService.Watch, but the parts of a commit as one, nothing
// that was delivered before, and a Reset without a reason if the connection broke during a snapshot.
//
// A message counts as applied when the loop asks for the next one. Its position is saved while the feed waits for that, at
// most every 200 ms: a crash repeats messages and loses none. A message at which the loop breaks is not applied.
// If the request names a Consumer and the options no Store, the node stores the position, and resumes the feed after it.
//
// The feed retries without limit. It ends with the context, or with an error that a retry cannot help: a refused request, a
// position that cannot be saved or, without AllowReset, resumed from, or five faults of the server in a row.
func (c *Client) Feed(ctx context.Context, request *cablev1.WatchRequest, options FeedOptions) iter.Seq2[*cablev1.WatchResponse, error] {
	return func(yield func(*cablev1.WatchResponse, error) bool) {
		options.consumer = cmp.Or(options.consumer, request.GetConsumer())
		f := &feed{client: c, options: options, request: copyOf(request), cancel: func(error) {}}
		defer func() { f.cancel(nil); _ = f.save(ctx) }() // If that fails after a break, messages are repeated.
		err := f.load(ctx)
		for err == nil {
			var message *cablev1.WatchResponse
			if message, err = f.receive(ctx); err == nil {
				f.isTokenReplaced = false // A node has accepted the token, even if nothing has changed since.
				message, err = f.accept(message)
			}
			if err != nil {
				message, err = f.recover(ctx, c.toError(ctx, err, nil))
			}
			if message != nil && !yield(message, nil) {
				return
			} else if message != nil {
				f.applied = f.position
			}
		}
		yield(nil, c.toError(ctx, cmp.Or(f.save(ctx), err), nil))
	}
}

// feed is the state of a feed between two messages.
type feed struct {
	client                  *Client
	options                 FeedOptions
	request                 *cablev1.WatchRequest // Its start is that of the next stream.
	messages                chan received         // Of the open stream, or nil.
	cancel                  func(cause error)     // Ends the last stream.
	patience, wait          time.Duration         // The longest wait for a message, and that before the next stream.
	position                *cablev1.Position     // That of the last message. Nil during a snapshot.
	applied, saved          *cablev1.Position
	records                 int64                 // The records received of the current snapshot.
	parts                   []*cablev1.FeedChange // Of an incomplete commit.
	bytes, failures, faults int                   // The size of the parts, and failures since the last progress.
	isTokenReplaced         bool
	savedAt                 time.Time
}

type received struct {
	message *cablev1.WatchResponse
	err     error
}

// load sets the default and loads the saved position.
func (f *feed) load(ctx context.Context) (err error) {
	f.request.CheckpointInterval = cmp.Or(f.request.CheckpointInterval, durationpb.New(10*time.Second))
	if f.options.Store != nil {
		if f.saved, err = f.options.Store.Load(ctx); err != nil {
			return newError(codes.Internal, "the position of the feed could not be loaded: %w", err)
		} else if f.saved != nil {
			f.request.Start = &cablev1.WatchRequest_After{After: f.saved}
		}
	}
	f.position, f.patience = f.request.GetAfter(), missedCheckpoints*f.request.CheckpointInterval.AsDuration()
	return nil
}

// save saves the position of the last applied message, unless it is saved.
func (f *feed) save(ctx context.Context) error {
	if f.options.Store == nil && f.options.consumer == "" || f.applied == nil || proto.Equal(f.applied, f.saved) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	f.saved, f.savedAt = f.applied, time.Now()
	if f.options.Store == nil {
		return f.acknowledge(ctx)
	} else if err := f.options.Store.Save(ctx, f.applied); err != nil {
		return newError(codes.Internal, "the position of the feed could not be saved: %w", err)
	}
	return nil
}

// acknowledge stores the position on the node. If no node accepts it yet, the next message or stream repeats it.
func (f *feed) acknowledge(ctx context.Context) error {
	_, err := cablev1.NewFeedServiceClient(f.client).AcknowledgePosition(ctx, &cablev1.AcknowledgePositionRequest{Consumer: f.options.consumer, Position: f.applied})
	switch failure := f.client.toError(ctx, err, nil); failure.Code {
	case codes.OK, codes.FailedPrecondition, codes.OutOfRange: // No feed can resume after it; Watch reports that.
	case codes.Canceled, codes.DeadlineExceeded, codes.ResourceExhausted, codes.Unavailable:
		f.saved = nil
	default:
		return failure
	}
	return nil
}

// receive returns the next message of the server, on a new stream if there is none. A silent stream fails.
func (f *feed) receive(ctx context.Context) (*cablev1.WatchResponse, error) {
	if f.messages == nil {
		if err := f.save(ctx); err != nil {
			return nil, err
		}
		f.client.sleep(ctx, f.wait)
		f.messages, f.patience = make(chan received), max(f.client.timeout, f.patience)
		streamCtx, cancel := context.WithCancelCause(ctx)
		f.cancel = cancel // Each stream has its own, so that a silent one cancels no later one.
		go f.client.watch(streamCtx, proto.CloneOf(f.request), f.messages)
	}
	silence, due := time.After(f.patience), time.After(time.Until(f.savedAt.Add(saveInterval)))
	f.patience = missedCheckpoints * f.request.CheckpointInterval.AsDuration()
	for {
		select {
		case next := <-f.messages:
			return next.message, next.err
		case <-silence:
			f.cancel(errSilent)
			return nil, errSilent
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-due:
			if err := f.save(ctx); err != nil {
				return nil, err
			}
		}
	}
}

// watch opens a stream and reads it until its end or the end of its context.
func (c *Client) watch(ctx context.Context, request *cablev1.WatchRequest, messages chan<- received) {
	stream, err := cablev1.NewFeedServiceClient(c).Watch(ctx, request)
	var message *cablev1.WatchResponse
	for isOpen := true; isOpen; isOpen = err == nil {
		if err == nil {
			message, err = stream.Recv()
		}
		select {
		case messages <- received{message, err}:
		case <-ctx.Done():
		}
	}
}

// accept returns the message for the caller, or nil if it has nothing new.
func (f *feed) accept(message *cablev1.WatchResponse) (*cablev1.WatchResponse, error) {
	switch event := message.Event.(type) {
	case nil: // An event of a later release.
		return nil, nil
	case *cablev1.WatchResponse_Reset_:
		f.position, f.records, f.parts, f.bytes = nil, 0, nil, 0
		f.request.Start = &cablev1.WatchRequest_Snapshot{Snapshot: true} // That of the next stream, if this one breaks.
		return message, nil
	case *cablev1.WatchResponse_Snapshot:
		f.records += int64(len(event.Snapshot.Records))
		return message, nil
	case *cablev1.WatchResponse_SnapshotEnd:
		if f.records != event.SnapshotEnd.Count {
			return nil, errors.New("malformed response: snapshot with another number of records")
		}
		f.records = 0
	case *cablev1.WatchResponse_Changes:
		limit := cmp.Or(f.options.MaxCommitBytes, maxCommitBytes)
		if f.bytes += proto.Size(message); f.bytes > limit && !event.Changes.MoreFollows && len(f.parts) == 0 {
			f.bytes = largestCommit(event.Changes.Changes)
		}
		f.parts = append(f.parts, event.Changes.Changes...)
		if f.bytes > limit {
			return nil, newError(codes.ResourceExhausted, "commit above MaxCommitBytes: raise it, or use a smaller view or filter")
		} else if event.Changes.MoreFollows {
			return nil, nil
		}
		isSameLog := message.Position.GetLogId() == f.position.GetLogId()
		isOld := func(change *cablev1.FeedChange) bool { return isSameLog && change.Revision <= f.position.GetRevision() }
		event.Changes.Changes, f.parts, f.bytes = slices.DeleteFunc(f.parts, isOld), nil, 0
		if len(event.Changes.Changes) == 0 {
			return nil, nil
		}
	}
	if message.Position == nil || len(f.parts) > 0 {
		return nil, errors.New("malformed response: message without position, or between two parts of a commit")
	}
	isCaughtUp := message.GetCheckpoint() != nil && !message.GetCheckpoint().Behind
	if isCaughtUp || !proto.Equal(message.Position, f.position) {
		f.failures, f.faults = 0, 0
	}
	f.position, f.request.Start = message.Position, &cablev1.WatchRequest_After{After: message.Position}
	return message, nil
}

// largestCommit returns the size of the largest commit among whole commits. The changes of a commit have one time.
func largestCommit(changes []*cablev1.FeedChange) (largest int) {
	size := 0
	for i, change := range changes {
		if i > 0 && !proto.Equal(change.Time, changes[i-1].Time) {
			size = 0
		}
		size += proto.Size(change)
		largest = max(largest, size)
	}
	return largest
}

// recover ends the stream and prepares a retry, or returns the error if a retry cannot help. The server sends the parts
// of a commit again. If a part of a snapshot was delivered, it returns a reset, and the snapshot restarts.
func (f *feed) recover(ctx context.Context, failure *Error) (*cablev1.WatchResponse, error) {
	f.cancel(nil)
	f.messages, f.parts, f.bytes = nil, nil, 0
	isFinal := failure.final || ctx.Err() != nil
	switch failure.Code {
	case codes.InvalidArgument, codes.OutOfRange, codes.FailedPrecondition, codes.PermissionDenied, codes.Unimplemented:
		isFinal = true
	case codes.Unauthenticated:
		isFinal = isFinal || f.isTokenReplaced || !f.client.credentials.replace(ctx, failure)
		f.isTokenReplaced = true
	case codes.ResourceExhausted, codes.DataLoss, codes.Internal, codes.Unknown:
		if failure.Code != codes.ResourceExhausted || failure.Reason == 0 { // A message above the limit of this side.
			f.faults++
		}
	}
	if isFinal || f.faults >= maxServerFaults {
		return nil, failure
	}
	f.failures, f.wait = f.failures+1, wait(f.failures+1, longestFeedWait, failure)
	if f.options.OnRetry != nil {
		f.options.OnRetry(failure)
	}
	if f.records == 0 {
		return nil, nil
	}
	return f.accept(&cablev1.WatchResponse{Event: &cablev1.WatchResponse_Reset_{Reset_: &cablev1.FeedReset{}}})
}

// A PositionStore stores the position of one feed. A follower that writes to a database should write the position in
// the same transaction instead, and start after it.
type PositionStore interface {
	// Load returns the position that was saved last, or nil if none was.
	Load(ctx context.Context) (*cablev1.Position, error)
	// Save replaces the position. After a crash, Load must return the old or the new one.
	Save(ctx context.Context, position *cablev1.Position) error
}

// MemoryPosition is a [PositionStore] whose position ends with the process. The zero value is empty.
type MemoryPosition struct {
	at atomic.Pointer[cablev1.Position]
}

func (m *MemoryPosition) Load(context.Context) (*cablev1.Position, error) { return m.at.Load(), nil }
func (m *MemoryPosition) Save(_ context.Context, p *cablev1.Position) error {
	m.at.Store(p)
	return nil
}

// FilePosition is a [PositionStore] in the file at this path, in JSON. Its directory must exist. Each position is
// written to a new file, synced and renamed.
type FilePosition string

func (f FilePosition) Load(context.Context) (*cablev1.Position, error) {
	position := &cablev1.Position{}
	info, err := os.Stat(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err == nil && !info.Mode().IsRegular() { // To read a pipe could take forever.
		err = fmt.Errorf("%s: not a regular file", string(f))
	}
	if err != nil {
		return nil, err
	} else if text, err := os.ReadFile(string(f)); err != nil {
		return nil, err
	} else if err = protojson.Unmarshal(text, position); err != nil || position.LogId == "" || len(position.Chain) == 0 {
		err = cmp.Or(err, errors.New("incomplete"))
		return nil, fmt.Errorf("%s: not a position: restore the file, or delete it and take a snapshot: %w", string(f), err)
	}
	return position, nil
}

func (f FilePosition) Save(_ context.Context, position *cablev1.Position) error {
	path := string(f)
	for range maxLinks { // A link remains, and its target is replaced, which need not exist yet.
		target, err := os.Readlink(path)
		if err != nil {
			break
		} else if !filepath.IsAbs(target) {
			directory, _ := filepath.Split(path)
			target = directory + target
		}
		path = target
	}
	file, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	_, err = file.WriteString(protojson.Format(position))
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}
