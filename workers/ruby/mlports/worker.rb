# frozen_string_literal: true

require "monitor"

module Mlports
  # A worker program: its methods, and the loop that answers for them.
  class Worker
    FEATURES = %w[batch cancel input ndarray ping stream].freeze
    GRACE = 1.0 # seconds that handlers go on when the orchestrator is gone

    Handler = Struct.new(:kind, :body, :idempotent, :input, keyword_init: true)
    Job = Struct.new(:handler, :method, :params, :meta, :context)

    # `concurrency`: how many requests are worked on at once, each in a thread; 1 unless given.
    def initialize(name, concurrency: 1)
      @name = name
      @concurrency = concurrency
      @handlers = {}
      @setup = ->(_config) {}
    end

    # What is done once, with the service's config (a Hash), before the first call: the place to load a model.
    def setup(&body)
      @setup = body
    end

    # Arguments in, a value out. `idempotent`: twice does the same as once, so that a call may be repeated after a crash.
    # `input`: the last argument is a stream, which is Enumerable. Without a block it is Object#method.
    def method(name, idempotent: false, input: false, &body)
      body ? add(name, :plain, body, idempotent, input) : super(name)
    end

    # A list of arguments in (of lists, where calls have several), as many results out. A Failure, or any exception, in
    # a result's place is that item's error.
    def batch(name, idempotent: false, &body)
      add(name, :batch, body, idempotent, false)
    end

    # Arguments in, something Enumerable out, whose items are sent as fast as the caller takes them.
    def stream(name, idempotent: false, input: false, &body)
      add(name, :stream, body, idempotent, input)
    end

    # Calls "service.method" of another service, from within a handler; `timeout` in seconds. Raises CallFailed.
    def call(target, *params, timeout: nil)
      @calls.call(target, params, timeout: timeout)
    end

    # The same without an answer.
    def cast(target, *params)
      @calls.cast(target, params)
    end

    # A line for the orchestrator's log: level is debug, info, warning or error.
    def log(level, text, **fields)
      @connection.notify("$/log", [level.to_s, text.to_s, fields.transform_keys(&:to_s)])
    end

    # Answers until the orchestrator says stop or closes the stream; then ends the program with status 0. What breaks
    # the protocol ends it with status 1.
    def run
      trap("INT", "IGNORE") # at a terminal every process gets it: the orchestrator decides
      trap("TERM", "SYSTEM_DEFAULT")
      @connection = Connection.new(Mlports.take_channel)
      @calls = Calls.new(@connection)
      @jobs = []
      @open = {} # id => context
      @credit = {} # id => items that may still be sent
      @phase = :new
      read_in_background
      greet
      (2..@concurrency).map { Thread.new { work } }
      work
      @connection.wait_until(nil) { @open.empty? || @ended }
      exit!(0)
    end

    private

    def add(name, kind, body, idempotent, input)
      raise ArgumentError, "a method without a block" unless body
      raise ArgumentError, "#{name}: names beginning with $/ are the protocol's" if name.to_s.start_with?("$/")

      @handlers[name.to_s] = Handler.new(kind: kind, body: body, idempotent: idempotent, input: input)
      self
    end

    # -- the handlers' side

    def greet
      @connection.wait_until(nil) { @hello || @ended }
      exit!(0) unless @hello
      id, hello = @hello
      @config = hello["config"] || {}
      run_setup
      features = Array(hello["features"]) & FEATURES
      @connection.codec.ndarray = features.include?("ndarray")
      @connection.change { @phase = :ready }
      @connection.answer(id, nil, description)
    end

    def run_setup
      @setup.call(@config)
    rescue StandardError => error
      warn(error.full_message(highlight: false))
      exit!(1)
    end

    def description
      methods = @handlers.transform_values do |handler|
        flags = { "batch" => handler.kind == :batch, "stream" => handler.kind == :stream, "idempotent" => handler.idempotent }
        handler.input ? flags.merge("input" => true) : flags
      end
      { "protocol" => 1, "max_frame" => @connection.max_frame, "name" => @name, "language" => "ruby",
        "sdk" => "mlports-ruby #{VERSION}", "methods" => methods, "features" => FEATURES, "concurrency" => @concurrency }
    end

    def work
      loop do
        @connection.wait_until(nil) { !@jobs.empty? || @stopping || @ended }
        job = @connection.lock.synchronize { @jobs.shift } or return
        # Whoever takes it out of the unbegun ones answers it: the reader does, if it is cancelled before this.
        begin_job(job)
      end
    end

    def begin_job(job)
      return cast_now(job) unless job.context.id

      error, result = Mlports.within(job.context) { outcome(job) }
      finish(job.context.id, error, result)
    end

    def finish(id, error, result)
      @connection.change do
        return unless @open.delete(id)

        @credit.delete(id)
      end
      @connection.answer(id, error, result)
    end

    def outcome(job)
      if job.context.deadline&.<=(0)
        return [{ "code" => "deadline_exceeded", "message" => "the deadline of #{job.method} passed before it began" }, nil]
      end

      [nil, job.meta.key?("batch") ? run_batch(job) : run_one(job.handler, job.params, job.context)]
    rescue StandardError, NotImplementedError, SystemStackError, NoMemoryError => error
      [Mlports.error_map(error), nil]
    end

    def run_one(handler, params, context)
      params = [*params, context.input] if context.input
      check_arity(handler, params)
      case handler.kind
      when :batch then value_of(results_of(handler, [params]).first)
      when :stream then send_stream(handler.body.call(*params), context)
      else handler.body.call(*params)
      end
    end

    def run_batch(job)
      return job.params.map { |params| pair { run_one(job.handler, params, job.context) } } unless job.handler.kind == :batch

      results_of(job.handler, job.params).map { |result| pair { value_of(result) } }
    end

    def results_of(handler, items)
      results = handler.body.call(items.all? { |item| item.size == 1 } ? items.map(&:first) : items)
      return results if results.is_a?(Array) && results.size == items.size

      raise Failure.new("internal", "the batch method gave #{results.is_a?(Array) ? results.size : 'no'} results for #{items.size}")
    end

    def value_of(result)
      result.is_a?(Exception) ? raise(result) : result
    end

    def pair
      [nil, yield]
    rescue StandardError => error
      [Mlports.error_map(error), nil]
    end

    def check_arity(handler, params)
      return if handler.kind == :batch

      names = handler.body.parameters
      needed = names.count { |kind, _| %i[req opt].include?(kind) }
      return if names.any? { |kind, _| kind == :rest } || params.size == needed

      raise Failure.new("invalid_argument", "#{params.size} arguments, and the method takes #{needed}")
    end

    def send_stream(items, context)
      raise Failure.new("internal", "the stream method gave nothing that can be gone through") unless items.respond_to?(:each)
      return collect(items, context) unless @connection.lock.synchronize { @credit.key?(context.id) }

      items.each do |item|
        context.check!
        @connection.wait_until(nil) { context.cancelled? || @credit[context.id].to_i.positive? }
        context.check!
        @connection.change { @credit[context.id] -= 1 }
        @connection.notify("$/item", [context.id, item])
      end
      nil
    end

    def collect(items, context)
      items.each.map do |item|
        context.check!
        item
      end
    end

    def cast_now(job)
      Mlports.within(job.context) { run_one(job.handler, job.params, job.context) }
    rescue StandardError => error
      log("error", "the cast to #{job.method} failed: #{Mlports.error_map(error)['message']}")
    end

    # -- the reader's side

    def read_in_background
      Thread.new do
        Thread.current.report_on_exception = false
        @connection.each_message { |message| receive(message) }
        end_of_input
      rescue Violation => violation
        STDERR.write("#{violation.message}\n")
        exit!(1)
      rescue Exception => error # rubocop:disable Lint/RescueException -- a reader that is gone would leave all waiting
        STDERR.write("#{error.full_message(highlight: false)}\n")
        exit!(1)
      end
    end

    def end_of_input
      patience = @stopping ? nil : GRACE
      @connection.change do
        @ended = true unless @stopping
        @open.each_value { |context| context.input&.break_off }
      end
      return if patience.nil?

      sleep(patience)
      exit!(0)
    end

    def receive(message)
      case message[0]
      when 0 then on_request(*message[1, 4])
      when 1
        raise Violation.new("UnknownId", "an answer before the handshake was done") unless @phase == :ready
        @calls.on_answer(*message[1, 3])
      when 2 then on_notification(*message[1, 3])
      end
    end

    def on_request(id, method, params, meta)
      return on_hello(id, params) if @phase == :new && method == "$/hello"
      raise Violation.new("DuplicateId", "request id #{id} is still in use") if @open.key?(id)
      raise Violation.new("HandshakeExpected", "#{method} in phase #{@phase}") if @phase != :ready || method == "$/hello"

      return @connection.answer(id, nil, nil) if method == "$/ping"

      handler = @handlers[method]
      return refuse(id, "unimplemented", "the worker #{@name} has no method #{method.inspect}") unless handler
      return refuse(id, "unavailable", "the worker is told to stop", retryable: true) if @stopping

      problem = check_meta(handler, params, meta)
      return refuse(id, "invalid_argument", "#{method}: #{problem}") if problem

      accept(id, handler, method, params, meta)
    end

    def accept(id, handler, method, params, meta)
      context = Context.new(@connection, id, meta, @config, Mlports.now)
      context.input = Input.new(@connection, context) if handler.input
      @connection.change do
        @open[id] = context
        @credit[id] = meta["credit"] if meta["credit"]
        @jobs << Job.new(handler, method, params, meta, context)
      end
    end

    def refuse(id, code, text, retryable: false)
      error = { "code" => code, "message" => text }
      error["retryable"] = true if retryable
      @connection.answer(id, error, nil)
    end

    def check_meta(handler, params, meta)
      credit, batch = meta.values_at("credit", "batch")
      bad = !credit.nil? && !(credit.is_a?(Integer) && credit >= 0)
      raise Violation.new("InvalidMessage", "a credit of #{credit.inspect[0, 40]}") if bad
      return handler.input ? "it takes a streamed argument" : "it takes no streamed argument" if handler.input != (meta["input"] == true)
      return if batch.nil?
      return "a batch neither streams nor takes a streamed argument" if credit || meta["input"]

      good = batch == params.size && batch.positive? && params.all?(Array)
      good ? nil : "a batch of #{batch.inspect[0, 40]} is an array of so many lists of arguments"
    end

    def on_hello(id, params)
      hello = params[0]
      invalid_hello("params are one map") unless hello.is_a?(Hash)
      versions = hello["protocol"]
      good = versions.is_a?(Hash) && versions["min"].is_a?(Integer) && versions["max"].is_a?(Integer)
      invalid_hello("protocol is {min, max}") unless good
      unless (versions["min"]..versions["max"]).cover?(1)
        text = "this SDK speaks version 1, the orchestrator #{versions['min']} to #{versions['max']}"
        raise Violation.new("UnsupportedVersion", text)
      end
      check_hello(hello)
      @connection.peer_max_frame = @connection.max_frame = hello["max_frame"] || Connection::MAX_FRAME
      @phase = :greeting
      @connection.change { @hello = [id, hello] }
    end

    def check_hello(hello)
      longest = hello["max_frame"]
      invalid_hello("max_frame") unless longest.nil? || (longest.is_a?(Integer) && longest.between?(1, 2**31 - 1))
      features = hello["features"]
      invalid_hello("features") unless features.nil? || (features.is_a?(Array) && features.all?(String))
      invalid_hello("service") unless hello["service"].nil? || hello["service"].is_a?(String)
      replica = hello["replica"]
      invalid_hello("replica") unless replica.nil? || (replica.is_a?(Integer) && !replica.negative?)
      invalid_hello("config") unless hello["config"].nil? || hello["config"].is_a?(Hash)
    end

    def invalid_hello(field)
      raise Violation.new("InvalidHello", "$/hello: #{field}")
    end

    def on_notification(method, params, meta)
      raise Violation.new("HandshakeExpected", "#{method} in phase #{@phase}") unless @phase == :ready
      return on_control(method, params) if method.start_with?("$/")

      handler = @handlers[method]
      if handler.nil? || handler.input
        log("warning", "a cast to #{method}, which cannot be cast to, was dropped")
      elsif !@stopping
        context = Context.new(@connection, nil, meta, @config, Mlports.now)
        @connection.change { @jobs << Job.new(handler, method, params, meta, context) }
      end
    end

    def on_control(method, params)
      case method
      when "$/cancel" then on_cancel(id_of(method, params))
      when "$/credit" then on_credit(method, params)
      when "$/input" then on_input(id_of(method, params), params)
      when "$/input_end" then @connection.change { @open[id_of(method, params)]&.input&.finish }
      when "$/stop" then @connection.change { @stopping = true }
      end
    end

    def on_cancel(id)
      unbegun = @connection.change do
        @open[id]&.cancel
        @jobs.find { |job| job.context.id == id }&.tap { |job| @jobs.delete(job) }
      end
      finish(id, Mlports.error_map(Cancelled.new), nil) if unbegun
    end

    def on_credit(method, params)
      id, more = id_of(method, params), params[1]
      wrong(method) unless more.is_a?(Integer) && more.positive?
      @connection.change { @credit[id] += more if @credit.key?(id) }
    end

    def on_input(id, params)
      wrong("$/input") if params.size < 2
      @connection.change do
        context = @open[id] or next
        raise Violation.new("CreditExceeded", "an item for request #{id}, which has no streamed argument") unless context.input

        context.input.add(params[1])
      end
    end

    def id_of(method, params)
      params[0].is_a?(Integer) && !params[0].negative? ? params[0] : wrong(method)
    end

    def wrong(method)
      raise Violation.new("InvalidMessage", "params of #{method}")
    end
  end
end
