// Package cable is the client of Cable, a content-delivery service for publishers.
//
// A [Client] has the methods of the services: GetArticle, PutArticle, Commit, GetStatus and so on. [Client.Feed]
// follows the changes that match a filter, across lost connections and restarts, and [Client.Mirror] holds a copy of
// what matches in memory. Requests and responses are messages of the package cablev1.
package cable

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	grpccredentials "google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"cable.example/go/cablev1"
)

// Config has the settings of a [Client]. The zero value is that of a client of a local server.
type Config struct {
	// Endpoints are the URLs of the nodes, `http://HOST:PORT` or `https://HOST:PORT`. If empty, http://127.0.0.1:7190.
	// Each call goes to a random node that works.
	Endpoints []string
	// TLS has the settings of https endpoints, such as RootCAs and Certificates. If nil, the CAs of the system are trusted.
	TLS *tls.Config
	// Token returns the token of the calls; see [StaticToken] and [TokenFile]. If nil, none is sent.
	Token TokenSource
	// AllowPlaintextToken allows the token to be sent to other machines without TLS.
	AllowPlaintextToken bool
	// Timeout is the deadline of calls whose context has none, including all attempts. If 0, 10 s.
	Timeout time.Duration
}

// Client is a client of one Cable with one or several nodes. It is safe for concurrent use.
//
// A call that fails with UNAVAILABLE is attempted three times within its deadline. Each attempt has half of the time
// that is left, and the last one all of it, so that a silent node does not use up the deadline. A write without a
// request id gets a random one, which its attempts share, so it is applied at most once.
//
// A client is a [grpc.ClientConnInterface]: generated clients of other services, such as
// cablev1.NewTransferServiceClient, work over it.
type Client struct {
	cablev1.ContentServiceClient
	cablev1.PublishingServiceClient
	cablev1.StatusServiceClient

	timeout     time.Duration
	credentials *credentials
	mu          sync.Mutex // Guards the order of the endpoints and their ejection.
	endpoints   []*endpoint
}

const (
	connectTimeout       = 3 * time.Second // Includes TLS and the first message of HTTP/2.
	longestReconnectWait = time.Second
	keepaliveInterval    = 10 * time.Second // Between pings while calls are open.
	keepaliveTimeout     = 10 * time.Second // Without a response to a ping, after which a connection is closed.
	maxMessageBytes      = 64 << 20         // The server sends at most 3.5 MiB.
)

// New returns a client. It opens no connection; the first call does.
func New(config Config) (*Client, error) {
	c := &Client{timeout: cmp.Or(config.Timeout, 10*time.Second)}
	c.ContentServiceClient = cablev1.NewContentServiceClient(c)
	c.PublishingServiceClient = cablev1.NewPublishingServiceClient(c)
	c.StatusServiceClient = cablev1.NewStatusServiceClient(c)
	if config.Token != nil {
		c.credentials = &credentials{source: config.Token, lock: make(chan struct{}, 1)}
	}
	if len(config.Endpoints) == 0 {
		config.Endpoints = []string{"http://127.0.0.1:7190"}
	}
	for _, text := range config.Endpoints {
		conn, err := newConn(text, config)
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
		c.endpoints = append(c.endpoints, &endpoint{url: text, conn: conn})
	}
	return c, nil
}

// Close closes the connections. Calls, feeds and mirrors that still run fail.
func (c *Client) Close() (err error) {
	for _, endpoint := range c.endpoints {
		err = errors.Join(err, endpoint.conn.Close())
	}
	return err
}

func newConn(text string, config Config) (*grpc.ClientConn, error) {
	endpoint, err := url.Parse(text)
	if err != nil || endpoint.Scheme != "http" && endpoint.Scheme != "https" || endpoint.Hostname() == "" ||
		endpoint.User != nil || endpoint.RawQuery != "" || endpoint.Path != "" && endpoint.Path != "/" {
		return nil, newError(codes.InvalidArgument, "Endpoints: %q is not http://HOST:PORT or https://HOST:PORT", text)
	}
	security, port := insecure.NewCredentials(), "80"
	if endpoint.Scheme == "https" {
		security, port = grpccredentials.NewTLS(config.TLS), "443"
	} else if config.Token != nil && !config.AllowPlaintextToken {
		ip, _ := netip.ParseAddr(endpoint.Hostname())
		if endpoint.Hostname() != "localhost" && !ip.Unmap().IsLoopback() {
			return nil, newError(codes.InvalidArgument, "Token: not sent to %s without TLS: use https://, or set AllowPlaintextToken", text)
		}
	}
	reconnect := backoff.Config{BaseDelay: firstWait, Multiplier: 2, Jitter: 0.25, MaxDelay: longestReconnectWait}
	return grpc.NewClient("dns:///"+net.JoinHostPort(endpoint.Hostname(), cmp.Or(endpoint.Port(), port)),
		grpc.WithTransportCredentials(security),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: reconnect, MinConnectTimeout: connectTimeout}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveInterval, Timeout: keepaliveTimeout}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageBytes)),
		grpc.WithDisableServiceConfig(),
		grpc.WithUserAgent("cable-go/0.1.0"),
	)
}

// A TokenSource returns the token of a client. It is called again when the token is older than 10 s or a server has
// refused it, so a rotation needs no restart. If it fails then, the last token is used. Its context ends after 5 s.
type TokenSource func(ctx context.Context) (string, error)

// StaticToken returns a source of a token that never changes.
func StaticToken(token string) TokenSource {
	return func(context.Context) (string, error) { return token, nil }
}

// TokenFile returns a source of the token in a file, without white space around it.
func TokenFile(path string) TokenSource {
	return func(context.Context) (string, error) {
		text, err := os.ReadFile(path)
		return string(text), err
	}
}

const (
	tokenAge       = 10 * time.Second
	tokenReadLimit = 5 * time.Second
	maxTokenBytes  = 4096
)

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
	if c == nil {
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
		c.readAt = time.Now()
		if err == nil && token != c.token {
			c.token, c.number = token, c.number+1
		} else if err != nil && c.number == 0 {
			return "", 0, &Error{Code: codes.Unavailable, Message: "cannot get a token: " + err.Error(), cause: err}
		}
	}
	return c.token, c.number, nil
}

// replace reports whether there is another token than the one that a server has refused with this error.
func (c *credentials) replace(ctx context.Context, failure *Error) bool {
	if failure.Code != codes.Unauthenticated {
		return false
	}
	_, number, err := c.get(ctx, failure.token)
	return err == nil && number != failure.token
}
