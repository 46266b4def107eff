# A worker: a program whose methods mlports calls, in a process of its own.
source("mlports/mlports.R")

worker <- mlports_worker("@NAME@")
line <- list(slope = 1, intercept = 0)

# Called once, before the first call, with `config` from mlports.toml: the place to load a model.
worker$setup(function(config) {
  if (!is.null(config$slope)) line$slope <<- config$slope
  if (!is.null(config$intercept)) line$intercept <<- config$intercept
})

# A plain method: arguments in, a value out. What it prints goes to the log and never breaks the protocol.
worker$method("describe", function(request) {
  cat("somebody asked what this is\n")
  c(list(kind = "line"), line)
})

# A batch method: a list of arguments in, as many results out, so that a model can work on many at once.
# A failure in a result's place is that item's error. `idempotent` lets mlports repeat a call after a crash.
worker$batch("predict", function(request, xs) {
  lapply(xs, function(x) {
    if (!is.numeric(x)) return(mlports_failure("invalid_argument", "a number is needed"))
    line$slope * x + line$intercept
  })
}, idempotent = TRUE)

# A stream method: each item is sent when it is emitted, which waits until the caller takes it.
worker$stream("steps", function(request, n, seconds = 0.1) {
  for (number in seq_len(n)) {
    Sys.sleep(seconds)
    request$progress(number, n)
    request$emit(number)
  }
})

worker$run()
