# The SDK for worker programs in R. It needs nothing but R, and sh to start it.
#
#     source("mlports/mlports.R")
#
#     worker <- mlports_worker("digits")
#     worker$method("double", function(request, x) 2 * x)
#     worker$run()
#
# Start it as `sh mlports/run.sh Rscript --vanilla worker.R`: what it prints goes to standard error then.

.mlports_folder <- if (is.null(sys.frame(1)$ofile)) "mlports" else dirname(sys.frame(1)$ofile)
for (.mlports_part in c("failures.R", "ndarray.R", "messagepack.R", "wire.R", "request.R", "worker.R")) {
  source(file.path(.mlports_folder, .mlports_part))
}
