"""The keys of a service."""

from __future__ import annotations

from typing import Final

from hunqi.apps.compose.keys import NEEDS_44, NEEDS_45, NEEDS_46, NEEDS_52, Key, table

_SERVICE: Final = f"""
- annotations*  Swarm gives containers no annotations; labels arrive
- attach  tasks have no terminal of yours; `hunqi app logs -f` shows all of them
~ build*  nothing is built by a deploy: `image` is deployed, and there must be one
- blkio_config*  Swarm limits no disk rates
+ cap_add  ContainerSpec.CapabilityAdd; a privilege
+ cap_drop  ContainerSpec.CapabilityDrop
- cgroup  tasks have the engine's default cgroup namespace
- cgroup_parent  tasks are in the engine's own cgroup
+ command  ContainerSpec.Args; a text is split as a shell would; an empty one leaves the image's
+ configs  ContainerSpec.Configs
+ configs.source  the config
+ configs.target  the file; /<name> without it
+ configs.uid  its owner
+ configs.gid  its group
+ configs.mode  its mode; 0444 without it
> container_name  tasks are named by the engine; the name is one more name of the service on its networks
- cpu_count  Windows only
- cpu_percent  Windows only
+ cpu_period  with cpu_quota: Resources.Limits.NanoCPUs
+ cpu_quota  Resources.Limits.NanoCPUs
- cpu_rt_period  Swarm has no real-time scheduling
- cpu_rt_runtime  Swarm has no real-time scheduling
- cpu_shares  Swarm has no relative weights; reserve with deploy.resources
+ cpus  Resources.Limits.NanoCPUs
- cpuset  Swarm pins no processors
- credential_spec*  Windows only
+ depends_on*  the order of the deploy
+ depends_on.*.condition  waited for before the service is started
+ depends_on.*.restart  the service is replaced too when a deploy or hunqi app restart replaces the other
+ depends_on.*.required  false: the other may be absent
+ deploy  see below
- develop*  for developing; a deploy does not watch files
- device_cgroup_rules  Swarm gives tasks no devices
- devices  Swarm gives tasks no devices; GPUs: gpus, or deploy.resources.reservations
+ dns  ContainerSpec.DNSConfig.Nameservers
+ dns_opt  ContainerSpec.DNSConfig.Options
+ dns_search  ContainerSpec.DNSConfig.Search
- domainname  tasks have a host name only
+ entrypoint  ContainerSpec.Command; a text is split as a shell would
+ env_file  ContainerSpec.Env, before environment
+ env_file.path  a file of the project
+ env_file.required  false: it may be absent
+ env_file.format  `raw` takes values as they stand
+ environment*  ContainerSpec.Env; one without a value is taken from the project's variables
~ expose  the HTTP ports at which the gateway stands for an HTTP service inside the app; of others it only informs
+ extends  the other service with this one merged onto it
+ extends.service  the other service
+ extends.file  a file of the project
- external_links  join the other app's network: networks.<name>.external
+ extra_hosts*  ContainerSpec.Hosts
~ gpus  reserved as generic resources NVIDIA-GPU, which the nodes must offer; `all` reserves one
~ gpus.count  how many are reserved
- gpus.device_ids  Swarm chooses the devices; as many are reserved
~ gpus.driver  names the generic resource: NVIDIA-GPU, or <DRIVER>-GPU
~ gpus.capabilities  the kind of the generic resource stands for them
- gpus.options*  generic resources have none
+ group_add  ContainerSpec.Groups
+ healthcheck  ContainerSpec.HealthCheck; a task is running once it passed
+ healthcheck.disable  Test: NONE
+ healthcheck.interval  Interval
+ healthcheck.retries  Retries
+ healthcheck.test  Test
+ healthcheck.timeout  Timeout
+ healthcheck.start_period  StartPeriod
> healthcheck.start_interval  StartInterval; {NEEDS_44}
+ hostname  ContainerSpec.Hostname, Swarm's templates such as {{{{.Task.Slot}}}} included
+ image  pinned by digest at the deploy, and pulled through the accelerator
+ init  ContainerSpec.Init
- ipc  tasks have an IPC namespace of their own
- isolation  Windows only
+ label_file  ContainerSpec.Labels, before labels
+ labels*  ContainerSpec.Labels; io.hunqi.* is refused
> links  the other service has the alias on the networks of the app, and is started first
+ logging  TaskTemplate.LogDriver; without it, where the engine writes json-file, three files of 20 MB a task
+ logging.driver  Name
+ logging.options*  Options
- mac_address  Swarm gives the addresses
+ mem_limit  Resources.Limits.MemoryBytes
+ mem_reservation  Resources.Reservations.MemoryBytes
> mem_swappiness  Resources.MemorySwappiness; {NEEDS_52}
> memswap_limit  Resources.SwapBytes, less mem_limit; {NEEDS_52}
- models*  Hunqi runs no models
~ network_mode  `host` is honoured (a privilege), `none` is a network of its own without a way out, `bridge` is the \
app's network; `service:` and `container:` are refused
+ networks*  TaskTemplate.Networks
+ networks.*.aliases  more names of the service there
- networks.*.interface_name  Swarm names the interfaces
- networks.*.ipv4_address  Swarm gives the addresses; use the service's name
- networks.*.ipv6_address  Swarm gives the addresses; use the service's name
- networks.*.link_local_ips  Swarm gives the addresses
- networks.*.mac_address  Swarm gives the addresses
+ networks.*.driver_opts*  DriverOpts of the attachment
- networks.*.priority  Swarm orders the networks
- networks.*.gw_priority  Swarm orders the networks
- oom_kill_disable  tasks can be killed when memory runs out; reserve with deploy.resources
> oom_score_adj  ContainerSpec.OomScoreAdj; {NEEDS_46}
- pid  tasks have a PID namespace of their own
+ pids_limit  Resources.Limits.Pids
+ platform  Placement.Platforms
~ ports  a TCP or UDP route of the gateway, at a port of the range published at `hunqi up`; never a Swarm port
+ ports.name  informs only
~ ports.mode  the gateway publishes; `host` is as `ingress`
~ ports.host_ip  with an address that is not 0.0.0.0 or [::] the port is not published
+ ports.target  the port of the container
~ ports.published  a port of the range; none: it is not published
~ ports.protocol  tcp or udp
- ports.app_protocol  nothing is guessed: HTTP is what x-hunqi.routes names
- post_start*  Swarm has no hooks; a service of its own with depends_on does
- pre_stop*  Swarm has no hooks; the program gets its stop signal once it is drained
- privileged  Swarm runs no privileged tasks; name capabilities by cap_add
+ profiles  services of profiles that are not asked for are left out
! provider*  there is nothing that Hunqi could run; remove the service, or bind to it by x-hunqi
~ pull_policy  each deploy pins the digest that the tag has then; `never` and `build` cannot be honoured
- pull_refresh_after  each deploy pins the digest that the tag has then
+ read_only  ContainerSpec.ReadOnly
+ restart  TaskTemplate.RestartPolicy, if there is no deploy.restart_policy; without either tasks are restarted always
- runtime  tasks run under the engine's default runtime
+ scale  replicas
+ secrets  ContainerSpec.Secrets
+ secrets.source  the secret
+ secrets.target  the file; below /run/secrets if it is no path
+ secrets.uid  its owner
+ secrets.gid  its group
+ secrets.mode  its mode; 0444 without it
~ security_opt  no-new-privileges, seccomp=unconfined and apparmor=unconfined (need Docker 25, API 1.44) and label:* \
arrive; others do not
> shm_size  a tmpfs of this size at /dev/shm
+ stdin_open  ContainerSpec.OpenStdin
+ stop_grace_period  ContainerSpec.StopGracePeriod, after the drain
+ stop_signal  ContainerSpec.StopSignal, after the drain; the image's without it
- storage_opt*  Swarm has none
+ sysctls*  ContainerSpec.Sysctls; a privilege
~ tmpfs  ContainerSpec.Mounts; size and mode arrive, other options need Docker 27 (API 1.46)
+ tty  ContainerSpec.TTY
+ ulimits*  ContainerSpec.Ulimits
+ ulimits.*.soft  Soft
+ ulimits.*.hard  Hard
- use_api_socket  the engine's socket is not for apps
+ user  ContainerSpec.User
- userns_mode  tasks have the engine's default user namespace
- uts  tasks have a UTS namespace of their own
~ volumes  ContainerSpec.Mounts
+ volumes.type  volume, bind, tmpfs; others are refused
~ volumes.source  a volume, a path of the host (a privilege), or a path of the project: its files become configs \
(50 of a directory at most), a directory that is empty or not there a volume
+ volumes.target  an absolute path in the container
+ volumes.read_only  ReadOnly
- volumes.consistency  has no meaning on Linux
+ volumes.bind.propagation  BindOptions.Propagation
- volumes.bind.create_host_path  a path of the host must be there
~ volumes.bind.recursive  `disabled` is BindOptions.NonRecursive; others do not arrive
- volumes.bind.selinux  Swarm relabels nothing
+ volumes.volume.labels*  labels of the volume, when it is made
+ volumes.volume.nocopy  VolumeOptions.NoCopy
> volumes.volume.subpath  VolumeOptions.Subpath; {NEEDS_45}
+ volumes.tmpfs.size  TmpfsOptions.SizeBytes
+ volumes.tmpfs.mode  TmpfsOptions.Mode
- volumes.image*  Swarm mounts no images
~ volumes_from  the mounts of the other service, volumes only
+ working_dir  ContainerSpec.Dir
+ x-hunqi*  see the page of x-hunqi
"""

_DEPLOY: Final = """
+ mode  replicated, global, replicated-job, global-job
> endpoint_mode  always dnsrr: the gateway and the app's own names lead to tasks, not to a virtual address
+ replicas  Mode.Replicated.Replicas; of a job: how many tasks, and at a time
+ labels*  labels of the Swarm service; io.hunqi.* is refused
- rollback_config*  a deploy that fails leaves the old revision serving; there is nothing to roll back
+ update_config.parallelism  tasks replaced at a time, 0 all; stop-first ones too unless with a volume or on other ports
- update_config.delay  the next ones are started once these are healthy
- update_config.failure_action  a deploy that fails leaves the old revision serving
- update_config.monitor  a task is healthy when its healthcheck and the gateway's check pass
- update_config.max_failure_ratio  every task must become healthy
~ update_config.order  start-first or stop-first; a service with a local volume is always stop-first
+ resources.limits.cpus  Resources.Limits.NanoCPUs
+ resources.limits.memory  Resources.Limits.MemoryBytes
+ resources.limits.pids  Resources.Limits.Pids
+ resources.reservations.cpus  Resources.Reservations.NanoCPUs
+ resources.reservations.memory  Resources.Reservations.MemoryBytes
+ resources.reservations.generic_resources.discrete_resource_spec.kind  Kind of a generic resource
+ resources.reservations.generic_resources.discrete_resource_spec.value  Value of a generic resource
~ resources.reservations.devices  reserved as generic resources NVIDIA-GPU, which the nodes must offer
~ resources.reservations.devices.count  how many are reserved
- resources.reservations.devices.device_ids  Swarm chooses the devices; as many are reserved
~ resources.reservations.devices.driver  names the generic resource: NVIDIA-GPU, or <DRIVER>-GPU
~ resources.reservations.devices.capabilities  the kind of the generic resource stands for them
- resources.reservations.devices.options*  generic resources have none
+ restart_policy.condition  none, on-failure, any
+ restart_policy.delay  Delay
+ restart_policy.max_attempts  MaxAttempts
+ restart_policy.window  Window
+ placement.constraints  Placement.Constraints
+ placement.preferences.spread  Placement.Preferences
+ placement.max_replicas_per_node  Placement.MaxReplicas
"""

SERVICE_KEYS: Final[tuple[Key, ...]] = (
    *table("services.*.", _SERVICE),
    *table("services.*.deploy.", _DEPLOY),
)
