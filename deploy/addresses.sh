# Where the deployment's ports are on this machine: source it. Of the ranges each replica has one port, and which of them it is
# changes when one is restarted, so every port is named.
export STILLPOINT_COMPUTE=127.0.0.1:50510,127.0.0.1:50511,127.0.0.1:50512,127.0.0.1:50513
export STILLPOINT_DISK=127.0.0.1:50520
export STILLPOINT_SNAPSHOT=127.0.0.1:50530,127.0.0.1:50531,127.0.0.1:50532,127.0.0.1:50533
