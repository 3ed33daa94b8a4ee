package com.cable.follower;

import com.cable.v1.FeedChange;
import com.cable.v1.FeedServiceGrpc;
import com.cable.v1.Position;
import com.cable.v1.Record;
import com.cable.v1.WatchRequest;
import com.cable.v1.WatchResponse;
import com.google.protobuf.Duration;
import com.google.protobuf.InvalidProtocolBufferException;
import io.grpc.Context;
import io.grpc.ManagedChannel;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.Iterator;
import java.util.List;
import java.util.Set;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.ScheduledFuture;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;

/**
 * Follows a feed without gaps: it resumes after the last position that its handler has applied, whatever ends.
 *
 * <p>Copy this class into your program, and change it as you need.
 */
public final class Follower {
  /** Receives what the feed delivers. An event is applied when its method returns; its position is saved after that. */
  public interface Handler {
    /** Changes of whole commits: apply them as one step. */
    void changes(List<FeedChange> changes, Position position);

    /** All records of a snapshot: replace what you hold. */
    void snapshot(List<Record> records, Position position);

    /** Everything up to the position was delivered. */
    default void checkpoint(Position position, boolean behind) {}

    /** The feed restarts: a snapshot follows. */
    default void reset(String reason) {}

    /** The follower tries again after this error. */
    default void retry(Status status) {}
  }

  /** Errors that no retry can help. */
  private static final Set<Status.Code> PERMANENT =
      EnumSet.of(
          Status.Code.INVALID_ARGUMENT,
          Status.Code.OUT_OF_RANGE,
          Status.Code.FAILED_PRECONDITION,
          Status.Code.UNAUTHENTICATED,
          Status.Code.PERMISSION_DENIED,
          Status.Code.UNIMPLEMENTED);

  /** The number of checkpoints in a row that may be missed before a stream counts as dead. */
  private static final int MISSED_CHECKPOINTS = 3;

  private static final long FIRST_PAUSE_MS = 50;
  private static final long LONGEST_PAUSE_MS = 5_000;

  private final List<ManagedChannel> channels;
  private final Path file;
  private final Handler handler;
  private final long maxSilenceMs;
  private final WatchRequest.Builder request;
  private Position last;

  /**
   * Creates a follower. The request states the filter, the view and the start; a position in the file, which may be
   * null, takes precedence over the start. The channels lead to the nodes of one Cable, and need a receive limit of at
   * least 4 MiB.
   */
  public Follower(List<ManagedChannel> channels, WatchRequest request, long checkpointMs, Path file, Handler handler) {
    this.channels = List.copyOf(channels);
    this.file = file;
    this.handler = handler;
    this.maxSilenceMs = checkpointMs * MISSED_CHECKPOINTS;
    this.request = request.toBuilder();
    this.request.setCheckpointInterval(
        Duration.newBuilder().setSeconds(checkpointMs / 1000).setNanos((int) (checkpointMs % 1000) * 1_000_000));
  }

  /**
   * Follows until the thread is interrupted, or until an error that no retry can help. An exception of the handler ends
   * it, too: the event that the handler has not applied comes again when the next follower resumes.
   */
  public void run() throws IOException, InterruptedException {
    last = file == null ? null : load();
    if (last != null) {
      request.setAfter(last);
    }
    last = request.hasAfter() ? request.getAfter() : null;
    ScheduledExecutorService watchdogs =
        Executors.newSingleThreadScheduledExecutor(
            task -> {
              Thread thread = new Thread(task, "cable-watchdog");
              thread.setDaemon(true);
              return thread;
            });
    try {
      follow(watchdogs);
    } finally {
      watchdogs.shutdownNow();
    }
  }

  /** Returns the position in the file, or null if there is no file. */
  private Position load() throws IOException {
    Position position;
    try {
      position = Position.parseFrom(Files.readAllBytes(file));
    } catch (NoSuchFileException none) {
      return null;
    } catch (InvalidProtocolBufferException broken) {
      position = Position.getDefaultInstance();
    }
    // A file that was cut can be a valid message: the fields come in this order, and the chain is the last one.
    if (position.getLogId().isEmpty() || position.getChain().isEmpty()) {
      throw new IOException(file + ": not a position: restore the file, or delete it and take a snapshot");
    }
    return position;
  }

  /** Opens one stream after the other. */
  private void follow(ScheduledExecutorService watchdogs) throws IOException, InterruptedException {
    long pause = FIRST_PAUSE_MS;
    for (int attempt = 0; ; attempt++) {
      ManagedChannel channel = channels.get(attempt % channels.size());
      Position before = last;
      StatusRuntimeException error = follow(channel, watchdogs);
      if (Thread.interrupted()) {
        throw new InterruptedException();
      }
      if (PERMANENT.contains(error.getStatus().getCode())) {
        throw error;
      }
      channel.enterIdle(); // The next stream gets a new connection: this one can be dead.
      handler.retry(error.getStatus());
      pause = last == before ? Math.min(pause * 2, LONGEST_PAUSE_MS) : FIRST_PAUSE_MS;
      long random = ThreadLocalRandom.current().nextLong(pause / 2, pause + 1);
      Thread.sleep(Math.max(Errors.retryMs(error), random));
    }
  }

  /**
   * Reads one stream until it ends, and returns its error. Its watchdog ends this stream, and no other. Only the reads
   * are in the context of the stream: a call that the handler makes does not end with it, and an exception of the
   * handler is none of the feed.
   */
  private StatusRuntimeException follow(ManagedChannel channel, ScheduledExecutorService watchdogs)
      throws IOException {
    try (Context.CancellableContext context = Context.current().withCancellation()) {
      Iterator<WatchResponse> stream = null;
      List<Record> records = new ArrayList<>();
      List<FeedChange> parts = new ArrayList<>();
      for (; ; ) {
        WatchResponse message;
        Context previous = context.attach();
        try {
          if (stream == null) {
            stream = FeedServiceGrpc.newBlockingStub(channel).watch(request.build());
          }
          message = next(stream, context, watchdogs);
        } catch (StatusRuntimeException error) {
          return error;
        } finally {
          context.detach(previous);
        }
        if (!accept(message, records, parts)) {
          return Status.UNAVAILABLE.withDescription("incomplete snapshot").asRuntimeException();
        }
      }
    }
  }

  /** Waits for a message, and no longer than for some checkpoints. */
  private WatchResponse next(
      Iterator<WatchResponse> stream, Context.CancellableContext context, ScheduledExecutorService watchdogs) {
    Throwable silence = Status.DEADLINE_EXCEEDED.withDescription("the stream is silent").asRuntimeException();
    ScheduledFuture<?> watchdog =
        watchdogs.schedule(() -> context.cancel(silence), maxSilenceMs, TimeUnit.MILLISECONDS);
    try {
      if (stream.hasNext()) {
        return stream.next();
      }
      throw Status.UNAVAILABLE.withDescription("the server ended the feed").asRuntimeException();
    } finally {
      watchdog.cancel(false);
    }
  }

  /** Passes a message to the handler. Returns false for the end of a snapshot that is incomplete. */
  private boolean accept(WatchResponse message, List<Record> records, List<FeedChange> parts) throws IOException {
    switch (message.getEventCase()) {
      case RESET -> {
        records.clear();
        parts.clear();
        request.setSnapshot(true);
        last = null;
        handler.reset(message.getReset().getReason().name().replace("FEED_RESET_REASON_", ""));
      }
      case SNAPSHOT -> records.addAll(message.getSnapshot().getRecordsList());
      case SNAPSHOT_END -> {
        if (message.getSnapshotEnd().getCount() != records.size()) {
          return false;
        }
        handler.snapshot(List.copyOf(records), message.getPosition());
        records.clear();
        applied(message.getPosition());
      }
      case CHANGES -> {
        parts.addAll(message.getChanges().getChangesList());
        if (message.getChanges().getMoreFollows()) {
          return true; // The last part has the position.
        }
        if (!parts.isEmpty()) {
          handler.changes(List.copyOf(parts), message.getPosition());
        }
        parts.clear();
        applied(message.getPosition());
      }
      case CHECKPOINT -> {
        handler.checkpoint(message.getPosition(), message.getCheckpoint().getBehind());
        applied(message.getPosition());
      }
      default -> {} // An event of a later release.
    }
    return true;
  }

  /** Saves a position, after what it stands for was applied: the file is the old one or the new one. */
  private void applied(Position position) throws IOException {
    if (file != null && !position.equals(last)) {
      Path next = file.resolveSibling(file.getFileName() + ".new");
      try (FileChannel out =
          FileChannel.open(
              next,
              StandardOpenOption.CREATE,
              StandardOpenOption.TRUNCATE_EXISTING,
              StandardOpenOption.WRITE)) {
        ByteBuffer bytes = ByteBuffer.wrap(position.toByteArray());
        while (bytes.hasRemaining()) {
          out.write(bytes);
        }
        out.force(true);
      }
      Files.move(next, file, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
      try (FileChannel directory = FileChannel.open(file.toAbsolutePath().getParent())) {
        directory.force(true);
      }
    }
    last = position;
    request.setAfter(position);
  }
}
