// Package cable is the client of Cable, a content-delivery service for publishers.
//
// A [Client] has the methods of the services, such as GetArticle and PutArticle. [Client.Feed] follows the changes that
// match a filter, and [Client.Mirror] holds a copy of what matches. All messages are those of the package cablev1.
package cable

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"cable.example/go/cablev1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	grpccredentials "google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Config has the settings of a [Client]. The zero value is that of a client of a local server.
type Config struct {
	Endpoints           []string      // The nodes: all http://HOST:PORT or all https://HOST:PORT. If empty, http://127.0.0.1:7190.
	TLS                 *tls.Config   // For https, such as RootCAs and Certificates. If nil, the CAs of the system are trusted.
	Token               TokenSource   // Returns the token of the calls; see [TokenFile]. If nil, none is sent.
	AllowPlaintextToken bool          // Whether the token may be sent to other machines without TLS.
	Timeout             time.Duration // The deadline of calls whose context has none, for all attempts. If 0, 10 s.
}

// Client is a client of one Cable. It is safe for concurrent use. Calls go by turns to the nodes that can be reached,
// except those that did not respond in time. Generated clients such as cablev1.NewTransferServiceClient work over it. A call that fails with UNAVAILABLE is attempted three times within its
// deadline; each attempt has half of the time that is left, and the last one all of it. A write without a request id
// gets a random one, which its attempts share, so it is applied at most once.
type Client struct {
	cablev1.ContentServiceClient
	cablev1.PublishingServiceClient
	cablev1.StatusServiceClient
	conn        *grpc.ClientConn
	closed      context.Context // Ends before the connections close, so that their failures are not retried.
	close       context.CancelFunc
	timeout     time.Duration
	credentials credentials
}

const (
	connectTimeout                          = 3 * time.Second                   // With TLS.
	pingInterval, pingTimeout               = 10 * time.Second, 5 * time.Second // Also between calls, which a half-open connection would delay.
	tokenAge, tokenReadLimit, maxTokenBytes = 10 * time.Second, 5 * time.Second, 4096
	maxMessageBytes                         = 64 << 20 // The server sends at most 3.5 MiB.
)

// New returns a client. It opens no connection; the first call does.
func New(config Config) (*Client, error) {
	if len(config.Endpoints) == 0 {
		config.Endpoints = []string{"http://127.0.0.1:7190"}
	}
	nodes, security, port := resolver.State{}, insecure.NewCredentials(), "80"
	scheme, _, _ := strings.Cut(config.Endpoints[0], ":")
	if scheme == "https" {
		security, port = grpccredentials.NewTLS(config.TLS), "443"
	}
	for _, text := range config.Endpoints {
		endpoint, err := url.Parse(text)
		isHTTP := err == nil && endpoint.Scheme == scheme && (scheme == "http" || scheme == "https")
		if !isHTTP || endpoint.Hostname() == "" || strings.TrimRight(text, "/") != endpoint.Scheme+"://"+endpoint.Host {
			return nil, newError(codes.InvalidArgument, "Endpoints: %q is not http://HOST:PORT or https://HOST:PORT, the same scheme for all", text)
		}
		isPrivate := port == "443" || endpoint.Hostname() == "localhost" || net.ParseIP(endpoint.Hostname()).IsLoopback()
		if config.Token != nil && !config.AllowPlaintextToken && !isPrivate {
			return nil, newError(codes.InvalidArgument, "Token: not sent to %s without TLS: use https://, or set AllowPlaintextToken", text)
		}
		host, port := endpoint.Hostname(), cmp.Or(endpoint.Port(), port)
		if number, err := strconv.ParseUint(port, 10, 16); err != nil || number == 0 || strings.HasSuffix(endpoint.Host, ":") {
			return nil, newError(codes.InvalidArgument, "Endpoints: the port of %q is not from 1 to 65535", text)
		}
		health := attributes.New(avoided{}, &atomic.Pointer[time.Time]{})
		address := resolver.Address{Addr: net.JoinHostPort(host, port), ServerName: host, Attributes: health}
		nodes.Addresses = append(nodes.Addresses, address)
	}
	nodeResolver := manual.NewBuilderWithScheme("cable")
	nodeResolver.InitialState(nodes)
	reconnect := backoff.Config{BaseDelay: firstWait, Multiplier: 2, Jitter: 0.25, MaxDelay: longestCallWait}
	conn, err := grpc.NewClient("cable:///"+nodes.Addresses[0].Addr, grpc.WithResolvers(nodeResolver),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"`+balancerName+`": {}}]}`),
		grpc.WithTransportCredentials(security),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: reconnect, MinConnectTimeout: connectTimeout}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingInterval, Timeout: pingTimeout, PermitWithoutStream: true}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageBytes)), grpc.WithUserAgent("cable-go/0.1.0"),
	)
	if err != nil {
		return nil, newError(codes.InvalidArgument, "Endpoints: %w", err)
	}
	token := credentials{source: config.Token, lock: make(chan struct{}, 1)}
	c := &Client{conn: conn, timeout: cmp.Or(config.Timeout, 10*time.Second), credentials: token}
	c.ContentServiceClient, c.PublishingServiceClient = cablev1.NewContentServiceClient(c), cablev1.NewPublishingServiceClient(c)
	c.StatusServiceClient = cablev1.NewStatusServiceClient(c)
	c.closed, c.close = context.WithCancel(context.Background())
	return c, nil
}

var ErrClosed = errors.New("the client is closed")                                    // The cause of the errors of a closed client.
var errSilent = errors.New("no response in time: the server or the connection hangs") // That of an ended context.

// Close closes the connections. Calls, feeds and mirrors that still run fail with [ErrClosed], as do later ones.
func (c *Client) Close() error { c.close(); return c.conn.Close() }

// A TokenSource returns the token of a client. It is called again when the token is older than 10 s or a server has
// refused it, so a rotation needs no restart. If it fails then, the last token is used. Its context ends after 5 s.
type TokenSource func(ctx context.Context) (string, error)

// StaticToken returns a source of a token that never changes.
func StaticToken(token string) TokenSource {
	return func(context.Context) (string, error) { return token, nil }
}

// TokenFile returns a source of the token in a file, without white space around it.
func TokenFile(path string) TokenSource {
	return func(context.Context) (string, error) { text, err := os.ReadFile(path); return string(text), err }
}

// credentials is the copy of the token that calls send. Its number changes with the token; the first one has 1.
type credentials struct {
	source TokenSource
	lock   chan struct{} // A lock for which a call waits no longer than its context allows.
	token  string
	number int
	readAt time.Time
}

// get returns the token and its number: another one than the refused one, if the source has another one.
func (c *credentials) get(ctx context.Context, refused int) (string, int, error) {
	if c.source == nil {
		return "", 0, nil
	}
	select {
	case c.lock <- struct{}{}:
		defer func() { <-c.lock }()
	case <-ctx.Done():
		return "", 0, ctx.Err()
	}
	if c.number == 0 || c.number == refused || time.Since(c.readAt) > tokenAge {
		ctx, cancel := context.WithTimeout(ctx, tokenReadLimit)
		defer cancel()
		token, err := c.source(ctx)
		token = strings.TrimSpace(token)
		isInvisible := func(r rune) bool { return r <= ' ' || r > '~' }
		if err == nil && (token == "" || len(token) > maxTokenBytes || strings.ContainsFunc(token, isInvisible)) {
			err = errors.New("not 1 to 4096 visible ASCII characters")
		}
		if c.readAt = time.Now(); err == nil && token != c.token {
			c.token, c.number = token, c.number+1
		} else if err != nil && c.number == 0 {
			return "", 0, &Error{Code: codes.Unavailable, Retryable: true, Message: "cannot get a token: " + err.Error(), cause: err}
		}
	}
	return c.token, c.number, nil
}

// replace reports whether there is another token than that of the call, which a server has refused.
func (c *credentials) replace(ctx context.Context, failure *Error) bool {
	_, number, err := c.get(ctx, failure.token)
	return err == nil && number != failure.token
}

// Error is the failure of a call, a stream, a feed or a mirror. Every error of this package is an *Error.
type Error struct {
	Code           codes.Code          // The status code of the server or, for failures on this side, the one that fits best.
	Reason         cablev1.ErrorReason // The reason that the server stated. Decide by it, not by the message.
	Message        string              // The description for people.
	Field          string              // The first invalid field of the request, such as `article.tags[3]`, or empty.
	Metadata       map[string]string   // Details of the reason, such as `etag` with ETAG_MISMATCH; see errors.proto.
	RetryAfter     time.Duration       // The delay before a retry that the server requested, or 0.
	Retryable      bool                // Whether the same call may succeed later: after UNAVAILABLE, a timeout or a requested delay.
	MayHaveApplied bool                // Whether a write may have been applied. A retry with the same request id is safe.

	cause error
	final bool // Another attempt cannot help, whatever the code.
	token int  // The number of the token that the call sent.
}

// Error returns the message with the reason.
func (e *Error) Error() string {
	reason := strings.TrimPrefix(e.Reason.String(), "ERROR_REASON_")
	return strings.TrimSuffix("cable: "+e.Message+" ("+reason+")", " (UNSPECIFIED)")
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.cause }

// toError returns the error of a call in this context that has sent this message, if any. io.EOF: it ended too early.
func (c *Client) toError(ctx context.Context, err error, sent proto.Message) *Error {
	own, ok := errors.AsType[*Error](err)
	if c.closed.Err() != nil && ctx.Err() == nil && (!ok || own.Reason == 0 && !own.final) {
		closed := newError(codes.Canceled, "%w", ErrClosed)
		closed.MayHaveApplied = ok && own.MayHaveApplied
		return closed
	} else if ok {
		return own
	} else if _, invalid := proto.Marshal(sent); invalid != nil {
		return newError(codes.InvalidArgument, "the request cannot be encoded: %w", invalid)
	}
	received := status.Convert(err)
	if err == io.EOF {
		received = status.New(codes.Unavailable, "the server ended the stream early")
	} else if err == errSilent || context.Cause(ctx) == errSilent {
		received = status.New(codes.Unavailable, errSilent.Error())
	} else if ctx.Err() != nil && (received.Code() == codes.Canceled || received.Code() == codes.Unknown) {
		err, received = ctx.Err(), status.FromContextError(ctx.Err())
	} else if received.Code() == codes.DeadlineExceeded {
		err = errors.Join(context.DeadlineExceeded, err) // Whichever side noticed first that the deadline had passed.
	}
	e := &Error{Code: received.Code(), Message: received.Message(), cause: err}
	e.Retryable = e.Code == codes.Unavailable || e.Code == codes.DeadlineExceeded
	for _, detail := range received.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if detail.Domain == "cable.v1" {
				e.Reason, e.Metadata = cablev1.ErrorReason(cablev1.ErrorReason_value["ERROR_REASON_"+detail.Reason]), detail.Metadata
			}
		case *errdetails.BadRequest:
			e.Field = append(detail.FieldViolations, &errdetails.BadRequest_FieldViolation{})[0].Field
		case *errdetails.RetryInfo:
			e.RetryAfter, e.Retryable = detail.RetryDelay.AsDuration(), true
		}
	}
	return e
}

// newError returns an error of this side, which another attempt does not help.
func newError(code codes.Code, format string, arguments ...any) *Error {
	err := fmt.Errorf(format, arguments...)
	return &Error{Code: code, Message: err.Error(), cause: errors.Unwrap(err), final: true}
}
