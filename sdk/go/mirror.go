package cable

import (
	"cmp"
	"context"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"cable.example/go/cablev1"
)

// Mirror is a copy of what a filter matches, kept up to date by a feed. Reads do not wait, and each commit is visible
// as a whole. The records are shared: do not change them. The mirror is empty until its first snapshot is complete.
// While no node can be reached, it serves the last known content. After a reset, the new snapshot replaces it at once.
type Mirror struct {
	cancel context.CancelFunc
	done   chan struct{}

	mu        sync.RWMutex // Guards the fields below.
	content   content
	version   int64
	isReady   bool
	isCurrent bool
	currentAt time.Time
	err       error
	changed   chan struct{} // Closed and replaced at each change.
}

// content is what matches at a position.
type content struct {
	position *cablev1.Position
	records  map[string]*cablev1.Record
	byTag    map[string]map[string]*cablev1.Article
}

// Mirror starts a mirror, which runs until [Mirror.Close] or the end of the context. The start of the request and its
// AllowReset and IncludeBackfill do not apply, nor does the store of the options.
func (c *Client) Mirror(ctx context.Context, request *cablev1.WatchRequest, options FeedOptions) *Mirror {
	ctx, cancel := context.WithCancel(ctx)
	m := &Mirror{cancel: cancel, done: make(chan struct{}), changed: make(chan struct{}), currentAt: time.Now()}
	request = proto.CloneOf(cmp.Or(request, &cablev1.WatchRequest{}))
	request.Start, request.AllowReset, request.IncludeBackfill = &cablev1.WatchRequest_Snapshot{Snapshot: true}, true, true
	onRetry := options.OnRetry
	options.Store, options.OnRetry = nil, func(err error) {
		m.update(func() { m.isCurrent = false })
		if onRetry != nil {
			onRetry(err)
		}
	}
	go func() {
		defer close(m.done)
		incoming := newContent()
		for message, err := range c.Feed(ctx, request, options) {
			m.update(func() { incoming = m.apply(message, err, incoming) })
		}
	}()
	return m
}

func newContent() content {
	return content{records: map[string]*cablev1.Record{}, byTag: map[string]map[string]*cablev1.Article{}}
}

// Close ends the mirror. Its content can still be read.
func (m *Mirror) Close() {
	m.cancel()
	<-m.done
}

// Ready waits until the first snapshot and the changes since are applied. If the feed has ended, it returns its error.
func (m *Mirror) Ready(ctx context.Context) error {
	return m.wait(ctx, func() bool { return m.isReady })
}

// Get returns the record with this name, such as `articles/storm`, or nil if it does not match.
func (m *Mirror) Get(name string) *cablev1.Record {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.content.records[name]
}

// Tagged returns the articles with this tag, such as `tags/storm`, sorted by name.
func (m *Mirror) Tagged(tag string) []*cablev1.Article {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return slices.SortedFunc(maps.Values(m.content.byTag[tag]), func(a, b *cablev1.Article) int { return cmp.Compare(a.Name, b.Name) })
}

// Snapshot returns all records by name, and their position, which is nil until the first snapshot is complete.
func (m *Mirror) Snapshot() (map[string]*cablev1.Record, *cablev1.Position) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return maps.Clone(m.content.records), m.content.position
}

// Lag returns the time since the mirror was last known to be up to date. With a working node, it is less than the
// checkpoint interval.
func (m *Mirror) Lag() time.Duration {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return time.Since(m.currentAt)
}

// Changes returns an iterator that yields the position of the content after each change from now on. It skips changes
// that are made while the loop is busy, and ends after an error: that of the feed, or of the context.
func (m *Mirror) Changes(ctx context.Context) iter.Seq2[*cablev1.Position, error] {
	m.mu.RLock()
	defer m.mu.RUnlock()
	seen := m.version
	return func(yield func(*cablev1.Position, error) bool) {
		for {
			var position *cablev1.Position
			version := seen
			err := m.wait(ctx, func() bool {
				version, position = m.version, m.content.position
				return version != seen
			})
			if seen = version; !yield(position, err) || err != nil {
				return
			}
		}
	}
}

// wait waits for a condition, which it checks after each update.
func (m *Mirror) wait(ctx context.Context, condition func() bool) error {
	for {
		m.mu.RLock()
		isMet, err, changed := condition(), m.err, m.changed
		m.mu.RUnlock()
		if isMet || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return toError(ctx, ctx.Err(), "")
		}
	}
}

func (m *Mirror) update(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
	if m.isCurrent {
		m.currentAt = time.Now()
	}
	close(m.changed)
	m.changed = make(chan struct{})
}

// apply applies a message of the feed, or its error. It returns the incomplete snapshot.
func (m *Mirror) apply(message *cablev1.WatchResponse, err error, incoming content) content {
	switch event := message.GetEvent().(type) {
	case nil:
		m.err, m.isCurrent = err, false
	case *cablev1.WatchResponse_Reset_:
		m.isCurrent = false
		return newContent()
	case *cablev1.WatchResponse_Snapshot:
		for _, record := range event.Snapshot.Records {
			incoming.set(RecordName(record), record)
		}
		return incoming
	case *cablev1.WatchResponse_SnapshotEnd:
		m.content, incoming = incoming, newContent()
		m.version++
	case *cablev1.WatchResponse_Changes:
		for _, change := range event.Changes.Changes {
			if change.GetUnreadable() == "" {
				m.content.set(ChangeName(change), change.GetUpsert())
			}
		}
		m.version++
	case *cablev1.WatchResponse_Checkpoint:
		m.isCurrent = !event.Checkpoint.Behind
		m.isReady = m.isReady || m.isCurrent
	}
	if message != nil {
		m.content.position = message.Position
	}
	return incoming
}

// set puts a record, or removes it if it is nil or of a kind that this version does not know.
func (c *content) set(name string, record *cablev1.Record) {
	for _, tag := range c.records[name].GetArticle().GetTags() {
		if delete(c.byTag[tag], name); len(c.byTag[tag]) == 0 {
			delete(c.byTag, tag)
		}
	}
	if delete(c.records, name); record == nil || name == "" {
		return
	}
	c.records[name] = record
	for _, tag := range record.GetArticle().GetTags() {
		if c.byTag[tag] == nil {
			c.byTag[tag] = map[string]*cablev1.Article{}
		}
		c.byTag[tag][name] = record.GetArticle()
	}
}

// RecordName returns the resource name of a record, or an empty string for a kind that this version does not know.
func RecordName(record *cablev1.Record) string {
	return record.GetArticle().GetName() + record.GetAuthor().GetName() + record.GetSection().GetName() +
		record.GetTag().GetName() + record.GetCollection().GetName() + record.GetTombstone().GetName()
}

// ChangeName returns the resource name of a change.
func ChangeName(change *cablev1.FeedChange) string {
	return RecordName(change.GetUpsert()) + change.GetLeft() + change.GetRemoved().GetName() + change.GetUnreadable()
}
