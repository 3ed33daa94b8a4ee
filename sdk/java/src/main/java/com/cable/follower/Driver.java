package com.cable.follower;

import com.cable.v1.ArticleView;
import com.cable.v1.BodyFormat;
import com.cable.v1.FeedChange;
import com.cable.v1.FeedFilter;
import com.cable.v1.Position;
import com.cable.v1.Record;
import com.cable.v1.WatchRequest;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.protobuf.Message;
import com.google.protobuf.util.JsonFormat;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Semaphore;

/** The driver of the conformance suite: commands in JSON lines on standard input, events on standard output. */
public final class Driver {
  private static final List<ManagedChannel> CHANNELS = new ArrayList<>();
  private static final Map<String, Semaphore> GATES = new ConcurrentHashMap<>();
  private static final Map<String, Thread> FOLLOWERS = new ConcurrentHashMap<>();

  private Driver() {}

  public static void main(String[] arguments) throws Exception {
    BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line; (line = input.readLine()) != null; ) {
      JsonObject command = JsonParser.parseString(line).getAsJsonObject();
      String id = command.get("id").getAsString();
      try {
        run(command, id);
      } catch (Exception error) {
        emitError(id, Status.INVALID_ARGUMENT.withDescription(error.toString()));
      }
    }
    System.exit(0);
  }

  private static void run(JsonObject command, String id) throws Exception {
    switch (command.get("command").getAsString()) {
      case "hello" -> {
        JsonObject event = event("hello", id);
        event.addProperty("language", "java");
        event.addProperty("sdk", "0.1.0");
        JsonArray capabilities = new JsonArray();
        List.of("follow", "store_file", "endpoints").forEach(capabilities::add);
        event.add("capabilities", capabilities);
        emit(event);
      }
      case "connect" -> {
        for (JsonElement endpoint : command.getAsJsonArray("endpoints")) {
          String target = endpoint.getAsString().replaceFirst("^http://", "");
          CHANNELS.add(ManagedChannelBuilder.forTarget(target).usePlaintext().maxInboundMessageSize(64 << 20).build());
        }
        emit(event("connected", id));
      }
      case "follow" -> follow(command, id);
      case "pause" -> {
        GATES.get(id).drainPermits();
        emit(event("paused", id));
      }
      case "resume" -> {
        GATES.get(id).release();
        emit(event("resumed", id));
      }
      case "stop" -> {
        Thread follower = FOLLOWERS.remove(command.get("of").getAsString());
        follower.interrupt();
        follower.join();
        emit(event("stopped", id));
      }
      default -> throw new IllegalArgumentException("command not supported");
    }
  }

  private static void follow(JsonObject command, String id) throws Exception {
    WatchRequest.Builder request = WatchRequest.newBuilder();
    if (command.has("filter")) {
      FeedFilter.Builder filter = FeedFilter.newBuilder();
      JsonFormat.parser().merge(command.get("filter").toString(), filter);
      request.setFilter(filter);
    }
    JsonElement start = command.get("start");
    if (start != null && start.isJsonObject()) {
      JsonFormat.parser().merge(start.getAsJsonObject().get("after").toString(), request.getAfterBuilder());
    } else if (start != null && start.getAsString().equals("snapshot")) {
      request.setSnapshot(true);
    }
    request.setAllowReset(command.has("reset") && command.get("reset").getAsBoolean());
    request.setIncludeBackfill(
        command.has("include_backfill") && command.get("include_backfill").getAsBoolean());
    if (command.has("view")) {
      request.setView(ArticleView.valueOf(command.get("view").getAsString()));
    }
    if (command.has("body_format")) {
      request.setBodyFormat(BodyFormat.valueOf(command.get("body_format").getAsString()));
    }
    long interval =
        command.has("checkpoint_interval_ms") ? command.get("checkpoint_interval_ms").getAsLong() : 10_000;
    String store = command.has("store") ? command.get("store").getAsString() : "";
    Path file = store.startsWith("file:") ? Path.of(store.substring(5)) : null;
    Semaphore gate = new Semaphore(1);
    GATES.put(id, gate);
    Follower follower = new Follower(CHANNELS, request.build(), interval, file, new Reporter(id, gate));
    emit(event("following", id));
    Thread thread =
        new Thread(
            () -> {
              try {
                follower.run();
              } catch (InterruptedException stopped) {
                Thread.currentThread().interrupt();
              } catch (StatusRuntimeException error) {
                if (!Thread.currentThread().isInterrupted()) { // Otherwise the handler was stopped while it was paused.
                  emitError(id, error.getStatus(), Errors.reason(error), Errors.field(error));
                }
              } catch (Exception error) {
                emitError(id, Status.INTERNAL.withDescription(error.toString()));
              }
            });
    FOLLOWERS.put(id, thread);
    thread.setDaemon(true);
    thread.start();
  }

  /** Reports what a follower delivers. */
  private record Reporter(String id, Semaphore gate) implements Follower.Handler {
    @Override
    public void changes(List<FeedChange> changes, Position position) {
      JsonArray items = new JsonArray();
      for (FeedChange change : changes) {
        JsonObject item = new JsonObject();
        item.addProperty("revision", change.getRevision());
        item.addProperty("op", change.getChangeCase().name().toLowerCase());
        switch (change.getChangeCase()) {
          case UPSERT -> describe(item, change.getUpsert());
          case LEFT -> item.addProperty("name", change.getLeft());
          case REMOVED -> item.addProperty("name", change.getRemoved().getName());
          default -> item.addProperty("name", change.getUnreadable());
        }
        item.addProperty("revision", change.getRevision());
        items.add(item);
      }
      report("changes", position, "changes", items);
    }

    @Override
    public void snapshot(List<Record> records, Position position) {
      JsonArray items = new JsonArray();
      for (Record record : records) {
        JsonObject item = new JsonObject();
        describe(item, record);
        items.add(item);
      }
      JsonObject event = event("snapshot", id);
      event.add("records", items);
      emit(event);
      JsonObject end = event("snapshot_end", id);
      end.addProperty("count", records.size());
      report(end, position);
    }

    @Override
    public void checkpoint(Position position, boolean behind) {
      JsonObject event = event("checkpoint", id);
      event.addProperty("behind", behind);
      report(event, position);
    }

    @Override
    public void reset(String reason) {
      JsonObject event = event("reset", id);
      event.addProperty("reason", reason);
      emit(event);
    }

    private void report(String name, Position position, String member, JsonElement value) {
      JsonObject event = event(name, id);
      event.add(member, value);
      report(event, position);
    }

    /** Prints an event, and does not return while the follower is paused. */
    private void report(JsonObject event, Position position) {
      event.add("position", json(position));
      emit(event);
      try {
        gate.acquire();
        gate.release();
      } catch (InterruptedException stopped) {
        Thread.currentThread().interrupt();
        throw Status.CANCELLED.asRuntimeException();
      }
    }
  }

  /** Adds what the runner checks of a record. */
  private static void describe(JsonObject item, Record record) {
    Object entity = record.getField(record.getDescriptorForType().findFieldByNumber(record.getRecordCase().getNumber()));
    Message message = (Message) entity;
    for (String name : List.of("name", "etag")) {
      item.addProperty(name, (String) message.getField(message.getDescriptorForType().findFieldByName(name)));
    }
    item.addProperty(
        "revision", (Long) message.getField(message.getDescriptorForType().findFieldByName("revision")));
  }

  private static JsonElement json(Message message) {
    try {
      return JsonParser.parseString(JsonFormat.printer().print(message));
    } catch (com.google.protobuf.InvalidProtocolBufferException impossible) {
      throw new IllegalStateException(impossible);
    }
  }

  private static JsonObject event(String name, String id) {
    JsonObject event = new JsonObject();
    event.addProperty("event", name);
    event.addProperty("id", id);
    return event;
  }

  private static void emitError(String id, Status status) {
    emitError(id, status, null, null);
  }

  private static void emitError(String id, Status status, String reason, String field) {
    JsonObject event = event("error", id);
    event.addProperty("code", status.getCode().name());
    event.addProperty("reason", reason);
    event.addProperty("field", field);
    event.addProperty("retryable", status.getCode() == Status.Code.UNAVAILABLE);
    event.addProperty("may_have_applied", false);
    event.addProperty("message", status.toString());
    emit(event);
  }

  private static synchronized void emit(JsonObject event) {
    System.out.println(event);
    System.out.flush();
  }
}
