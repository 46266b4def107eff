# frozen_string_literal: true

module Mlports
  # The two streams that carry frames; programs that the worker starts do not inherit them.
  Channel = Struct.new(:input, :output)

  # Takes the protocol's descriptors away from everybody else, once: where 0 and 1 were are an empty input and standard
  # error then, so that a print, also one by a C library, cannot get between two frames. With MLPORTS_TRANSPORT=fd34
  # descriptors 3 and 4 carry the frames, and 0 and 1 stay as they are.
  def self.take_channel
    @channel ||= begin
      ENV.delete("MLPORTS_WORKER") # programs that the worker starts are not workers
      ENV.delete("MLPORTS_TRANSPORT") == "fd34" ? take_3_and_4 : take_0_and_1
    end
  end

  def self.take_0_and_1
    channel = Channel.new(STDIN.dup, STDOUT.dup)
    STDIN.reopen(File::NULL, "r")
    STDOUT.reopen(STDERR)
    STDOUT.sync = true
    prepare(channel)
  end

  def self.take_3_and_4
    prepare(Channel.new(IO.for_fd(3, "rb"), IO.for_fd(4, "wb")))
  end

  def self.prepare(channel)
    channel.each do |io|
      io.binmode
      io.close_on_exec = true
    end
    channel.output.sync = true
    channel
  end

  private_class_method :take_0_and_1, :take_3_and_4, :prepare
end
