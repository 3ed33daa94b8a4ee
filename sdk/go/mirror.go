package cable

import (
	"context"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"cable.example/go/cablev1"
)

// Mirror is a copy of what a filter matches, kept up to date by a feed. Reads do not wait, and each commit is visible
// as a whole. While no node can be reached, it serves the last known content. The records are shared: do not change them.
type Mirror struct {
	client             *Client
	cancel             context.CancelFunc
	incoming           map[string]*cablev1.Record // The incomplete snapshot.
	mu                 sync.RWMutex               // Guards the fields below.
	records            map[string]*cablev1.Record
	position           *cablev1.Position
	version            int64
	currentAt          time.Time // The last time at which the content was known to be up to date.
	isCurrent, isReady bool
	err                error
	changed            chan struct{} // Closed and replaced at each change.
}

// Mirror starts a mirror, which runs until [Mirror.Close] or the end of the context. The start of the request and its
// AllowReset and IncludeBackfill do not apply, nor does the store of the options. If the request names a Consumer, the
// mirror acknowledges what it has applied, which shows its lag; it starts with a snapshot nevertheless.
func (c *Client) Mirror(ctx context.Context, request *cablev1.WatchRequest, options FeedOptions) *Mirror {
	ctx, cancel := context.WithCancel(ctx)
	m := &Mirror{client: c, cancel: cancel, changed: make(chan struct{}), currentAt: time.Now(), incoming: map[string]*cablev1.Record{}}
	request, onRetry := copyOf(request), options.OnRetry
	options.Store, options.consumer, options.OnRetry = nil, request.Consumer, func(err error) {
		if m.update(func() { m.isCurrent = false }); onRetry != nil {
			onRetry(err)
		}
	}
	request.Start, request.AllowReset, request.IncludeBackfill, request.Consumer = &cablev1.WatchRequest_Snapshot{Snapshot: true}, true, true, ""
	go func() {
		defer cancel()
		for message, err := range c.Feed(ctx, request, options) {
			m.update(func() { m.apply(message, err) })
		}
	}()
	return m
}

// Close ends the mirror. Its content can still be read.
func (m *Mirror) Close() { m.cancel() }

// Ready waits until the first snapshot and the changes since are applied. If the feed has ended, it returns its error.
func (m *Mirror) Ready(ctx context.Context) error {
	return m.wait(ctx, func() bool { return m.isReady })
}

// Get returns the record with this name, such as `articles/storm`, or nil if it does not match.
func (m *Mirror) Get(name string) *cablev1.Record { defer m.read()(); return m.records[name] }

// Tagged returns the articles with this tag, such as `tags/storm`, sorted by name.
func (m *Mirror) Tagged(tag string) (articles []*cablev1.Article) {
	defer m.read()()
	for _, name := range slices.Sorted(maps.Keys(m.records)) {
		if article := m.records[name].GetArticle(); slices.Contains(article.GetTags(), tag) {
			articles = append(articles, article)
		}
	}
	return articles
}

// Snapshot returns all records by name, and their position, which is nil until the first snapshot is complete.
func (m *Mirror) Snapshot() (map[string]*cablev1.Record, *cablev1.Position) {
	defer m.read()()
	return maps.Clone(m.records), m.position
}

// Lag returns the time since the mirror was known to be up to date: with a working node, below the checkpoint interval.
func (m *Mirror) Lag() time.Duration { defer m.read()(); return time.Since(m.currentAt) }

// Changes returns an iterator that yields the position after each change of the content from now on. It skips changes
// that are made while the loop is busy, and ends after an error: that of the feed, or of the context.
func (m *Mirror) Changes(ctx context.Context) iter.Seq2[*cablev1.Position, error] {
	defer m.read()()
	seen := m.version
	return func(yield func(*cablev1.Position, error) bool) {
		for isOpen := true; isOpen; {
			var position *cablev1.Position
			err := m.wait(ctx, func() (isNew bool) {
				isNew, seen, position = m.version != seen, m.version, m.position
				return isNew
			})
			isOpen = yield(position, err) && err == nil
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
			return m.client.toError(ctx, ctx.Err(), nil)
		}
	}
}

func (m *Mirror) read() (end func()) { m.mu.RLock(); return m.mu.RUnlock }

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

// apply applies a message of the feed, or its error.
func (m *Mirror) apply(message *cablev1.WatchResponse, err error) {
	switch event := message.GetEvent().(type) {
	case nil, *cablev1.WatchResponse_Reset_:
		m.err, m.isCurrent, m.incoming = err, false, map[string]*cablev1.Record{}
	case *cablev1.WatchResponse_Snapshot:
		for _, record := range event.Snapshot.Records {
			m.incoming[RecordName(record)] = record
		}
	case *cablev1.WatchResponse_SnapshotEnd:
		delete(m.incoming, "") // Records of kinds that this version does not know.
		m.records, m.incoming = m.incoming, map[string]*cablev1.Record{}
		m.version, m.position = m.version+1, message.Position
	case *cablev1.WatchResponse_Changes:
		for _, change := range event.Changes.Changes {
			if record := change.GetUpsert(); record != nil {
				m.records[ChangeName(change)] = record
			} else if change.GetUnreadable() == "" { // Otherwise the last readable version remains.
				delete(m.records, ChangeName(change))
			}
		}
		delete(m.records, "")
		m.version, m.position = m.version+1, message.Position
	case *cablev1.WatchResponse_Checkpoint:
		m.position, m.isCurrent = message.Position, !event.Checkpoint.Behind
		m.isReady = m.isReady || m.isCurrent
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
