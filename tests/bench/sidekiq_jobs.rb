# Sidekiq's side of the bench: loaded by `sidekiq` itself, and run as the program that sends its jobs (see sending.py),
# by a call each (`jobs COUNT 1`) or in bulk, a thousand a call, which is its own default (`bulk COUNT 1`).
require "sidekiq"

setup = proc do |config|
  config.redis = {url: ENV.fetch("BENCH_REDIS")}
  config.logger.level = Logger::WARN # the others write no line a job either
end
Sidekiq.configure_server(&setup)
Sidekiq.configure_client(&setup)

class Nothing
  include Sidekiq::Worker

  STEP = 1_000 # as in counting.py
  LOCK = Mutex.new
  @@ran = 0

  def perform
    full = LOCK.synchronize { (@@ran += 1) % STEP == 0 }
    Sidekiq.redis { |redis| redis.lpush("done", "1") } if full
  end
end

if $PROGRAM_NAME == __FILE__
  $stdin.each_line do |line|
    kind, count = line.split
    if kind == "jobs"
      count.to_i.times { Nothing.perform_async }
    else
      Nothing.perform_bulk([[]] * count.to_i)
    end
  end
end
