import socket
from pathlib import Path

from prfaas.config import load_config, parse_config
from prfaas.launch.local import EPHEMERAL_PORTS, engine_service, free_ports, gateway_service, local_tree
from prfaas.launch.up import how_to_use

PORTS = (8000, 8101, 7101, 8102, 7111)
EXAMPLE = Path(__file__).parent.parent.parent / "deploy" / "local" / "prfaas.yaml"


def test_ports_are_distinct_and_the_preferred_one_is_taken_if_free() -> None:
    """Five different ports; the first is the preferred one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        preferred = int(probe.getsockname()[1])
    ports = free_ports(preferred)
    assert ports[0] == preferred
    assert len(set(ports)) == 5


def test_ports_are_not_those_that_the_kernel_gives_to_others() -> None:
    """None of them can be taken by an outgoing connection before an engine listens on it, nor can those after them."""
    given_from = int(EPHEMERAL_PORTS.read_text().split()[0])
    assert all(port + 1 < given_from for port in free_ports(0))


def test_a_busy_preferred_port_is_avoided() -> None:
    """When somebody listens on the preferred port another one is chosen."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        busy = int(listener.getsockname()[1])
        assert free_ports(busy)[0] != busy


def test_engines_run_on_their_cores_and_warm_up() -> None:
    """Each engine gets one core, bounded cache and a first request of its own."""
    config = parse_config(local_tree(Path("model"), PORTS))
    service = engine_service(config, "cloud-0", core=3)
    assert service.command.env["VLLM_CPU_OMP_THREADS_BIND"] == "3"
    assert service.command.env["VLLM_SSM_CONV_STATE_LAYOUT"] == "DS"
    assert service.command.argv[-2:] == ("--max-num-batched-tokens", "512")
    assert service.warm_up is not None
    assert service.warm_up[0] == "http://127.0.0.1:8102/v1/completions"


def test_gateway_is_ready_when_its_engines_answer() -> None:
    """The gateway counts as ready by /ready, which asks engines, not by /health."""
    config = parse_config(local_tree(Path("model"), PORTS))
    assert gateway_service(config, Path("x.yaml")).health_url == "http://127.0.0.1:8000/ready"


def test_help_of_the_running_stack_names_the_gateway() -> None:
    """The curl line goes to the gateway's port and asks for the model."""
    text = how_to_use(parse_config(local_tree(Path("model"), PORTS)))
    assert "http://127.0.0.1:8000/v1/chat/completions" in text
    assert '"model": "tiny"' in text
    assert "http://127.0.0.1:8000/prfaas/plan" in text


def test_the_example_file_describes_the_same_stack() -> None:
    """deploy/local/prfaas.yaml is valid and equal to what the demo starts."""
    example = load_config(EXAMPLE, {})
    assert example == parse_config(local_tree(Path(".prfaas/models/qwen3_next"), PORTS))
