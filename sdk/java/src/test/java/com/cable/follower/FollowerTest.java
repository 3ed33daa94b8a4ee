package com.cable.follower;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.cable.v1.FeedChange;
import com.cable.v1.FeedChanges;
import com.cable.v1.FeedServiceGrpc;
import com.cable.v1.Position;
import com.cable.v1.Record;
import com.cable.v1.WatchRequest;
import com.cable.v1.WatchResponse;
import com.google.protobuf.ByteString;
import io.grpc.Context;
import io.grpc.ManagedChannel;
import io.grpc.Server;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.inprocess.InProcessChannelBuilder;
import io.grpc.inprocess.InProcessServerBuilder;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** Tests of the follower against a node that sends one change, and then fails or keeps its stream open. */
@Timeout(30)
class FollowerTest {
  private static final Position POSITION =
      Position.newBuilder().setLogId("0123abcd").setRevision(7).setChain(ByteString.copyFrom(new byte[32])).build();

  private final AtomicInteger streams = new AtomicInteger();
  private volatile Status end;
  private Server server;
  private ManagedChannel channel;

  @TempDir private Path directory;

  @BeforeEach
  void serve() throws IOException {
    String name = InProcessServerBuilder.generateName();
    FeedServiceGrpc.FeedServiceImplBase feed =
        new FeedServiceGrpc.FeedServiceImplBase() {
          @Override
          public void watch(WatchRequest request, StreamObserver<WatchResponse> responses) {
            streams.incrementAndGet();
            FeedChanges changes =
                FeedChanges.newBuilder()
                    .addChanges(FeedChange.newBuilder().setRevision(7).setLeft("articles/a"))
                    .build();
            responses.onNext(WatchResponse.newBuilder().setPosition(POSITION).setChanges(changes).build());
            if (end != null) {
              responses.onError(end.asRuntimeException());
            }
          }
        };
    server = InProcessServerBuilder.forName(name).addService(feed).build().start();
    channel = InProcessChannelBuilder.forName(name).build();
  }

  @AfterEach
  void stop() {
    channel.shutdownNow();
    server.shutdownNow();
  }

  /** A handler that runs a task for each change. */
  private record Each(Runnable task, List<Status> retries) implements Follower.Handler {
    Each(Runnable task) {
      this(task, new java.util.concurrent.CopyOnWriteArrayList<>());
    }

    @Override
    public void changes(List<FeedChange> changes, Position position) {
      task.run();
    }

    @Override
    public void snapshot(List<Record> records, Position position) {}

    @Override
    public void retry(Status status) {
      retries.add(status);
    }
  }

  private Follower follower(Path file, Follower.Handler handler) {
    WatchRequest request = WatchRequest.newBuilder().setSnapshot(true).build();
    return new Follower(List.of(channel), request, 1_000, file, handler);
  }

  private static long watchdogs() {
    return Thread.getAllStackTraces().keySet().stream()
        .filter(thread -> thread.isAlive() && thread.getName().equals("cable-watchdog"))
        .count();
  }

  @Test
  void aPositionFileThatIsEmptyOrCutIsRefused() throws Exception {
    Path file = directory.resolve("feed.position");
    byte[] whole = POSITION.toByteArray();
    for (int length = 0; length < whole.length; length++) {
      Files.write(file, Arrays.copyOf(whole, length));
      IOException error = assertThrows(IOException.class, () -> follower(file, new Each(() -> {})).run());
      assertTrue(error.getMessage().startsWith(file + ": not a position"), error.getMessage());
      assertTrue(error.getMessage().contains("delete it"), error.getMessage());
    }
    assertEquals(0, streams.get());
    Files.write(file, whole);
    end = Status.PERMISSION_DENIED;
    assertThrows(StatusRuntimeException.class, () -> follower(file, new Each(() -> {})).run());
    assertEquals(1, streams.get());
  }

  @Test
  void anExceptionOfTheHandlerLeavesRun() {
    for (Status status : List.of(Status.UNAVAILABLE, Status.NOT_FOUND, Status.FAILED_PRECONDITION)) {
      StatusRuntimeException own = status.withDescription("another service").asRuntimeException();
      Each handler =
          new Each(
              () -> {
                throw own;
              });
      Path file = directory.resolve(status.getCode().name());
      assertSame(own, assertThrows(StatusRuntimeException.class, () -> follower(file, handler).run()));
      assertEquals(List.of(), handler.retries());
      assertFalse(Files.exists(file), "the event was not applied");
    }
    assertEquals(3, streams.get());
  }

  @Test
  void theHandlerRunsOutsideTheContextOfTheStream() {
    Context own = Context.current();
    end = Status.PERMISSION_DENIED;
    Each handler = new Each(() -> assertSame(own, Context.current()));
    assertThrows(StatusRuntimeException.class, () -> follower(null, handler).run());
    assertSame(own, Context.current());
  }

  @Test
  void theEndOfRunEndsItsThread() throws Exception {
    long before = watchdogs();
    end = Status.PERMISSION_DENIED;
    for (int i = 0; i < 10; i++) {
      assertThrows(StatusRuntimeException.class, () -> follower(null, new Each(() -> {})).run());
    }
    end = null;
    AtomicInteger applied = new AtomicInteger();
    Each handler = new Each(applied::incrementAndGet);
    Thread thread = new Thread(() -> assertThrows(InterruptedException.class, () -> follower(null, handler).run()));
    thread.start();
    while (applied.get() == 0) {
      Thread.sleep(10);
    }
    thread.interrupt();
    thread.join(5_000);
    assertFalse(thread.isAlive());
    for (int i = 0; i < 100 && watchdogs() > before; i++) {
      Thread.sleep(20);
    }
    assertEquals(before, watchdogs());
  }

  @Test
  void aSilentStreamIsFollowedByAnother() throws Exception {
    Each handler = new Each(() -> {});
    Thread thread = new Thread(() -> assertThrows(InterruptedException.class, () -> follower(null, handler).run()));
    thread.start();
    while (streams.get() < 2) {
      Thread.sleep(20);
    }
    thread.interrupt();
    thread.join(5_000);
    assertFalse(thread.isAlive());
    assertEquals(Status.Code.DEADLINE_EXCEEDED, handler.retries().get(0).getCode());
  }
}
