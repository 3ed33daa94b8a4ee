package cable

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// avoidance is the time for which calls avoid a node that did not respond in time, if they can reach another one. A ping
// ends the connection of a node that still hangs then.
const avoidance = 5 * time.Second

const balancerName = "cable"

func init() { balancer.Register(base.NewBalancerBuilder(balancerName, pickers{}, base.Config{})) }

// node is a connection, and the time until which calls avoid its node, which outlives the connection.
type node struct {
	connection   balancer.SubConn
	avoidedUntil *atomic.Pointer[time.Time]
}

// avoided is the key of avoidedUntil in the attributes of an address.
type avoided struct{}

// pickers creates a picker whenever the nodes that can be reached change.
type pickers struct{}

func (pickers) Build(info base.PickerBuildInfo) balancer.Picker {
	if len(info.ReadySCs) == 0 {
		return base.NewErrPicker(balancer.ErrNoSubConnAvailable)
	}
	p := &picker{}
	p.turn.Store(rand.Uint32())
	for connection, info := range info.ReadySCs {
		p.nodes = append(p.nodes, node{connection, info.Address.Attributes.Value(avoided{}).(*atomic.Pointer[time.Time])})
	}
	return p
}

// picker returns nodes by turns. If calls are to avoid all of them, it returns the one that they avoid no longer first.
type picker struct {
	nodes []node
	turn  atomic.Uint32
}

func (p *picker) Pick(call balancer.PickInfo) (balancer.PickResult, error) {
	now, turn := time.Now(), int(p.turn.Add(1))%len(p.nodes)
	wait := func(n node) time.Duration {
		if until := n.avoidedUntil.Load(); until != nil {
			return max(0, until.Sub(now))
		}
		return 0
	}
	inTurn := slices.Concat(p.nodes[turn:], p.nodes[:turn])
	picked := slices.MinFunc(inTurn, func(a, b node) int { return int(wait(a) - wait(b)) }) // The first of equal ones.
	done := func(result balancer.DoneInfo) {
		isLate := status.Code(result.Err) == codes.DeadlineExceeded && !result.BytesReceived
		if isLate || context.Cause(call.Ctx) == errSilent {
			until := time.Now().Add(avoidance)
			picked.avoidedUntil.Store(&until)
		}
	}
	return balancer.PickResult{SubConn: picked.connection, Done: done}, nil
}
