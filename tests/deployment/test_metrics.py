import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from tests.tiny import some_images
from workbench.deployment.service import deploy

ANSWERED = 'workbench_requests_total{outcome="answered"}'


def test_the_text_is_what_prometheus_parses_and_the_dictionary_holds_the_same(packed):
    with deploy(packed) as service:
        for count in (1, 3, 20):
            service.predict(some_images(count))
        values, text = service.metrics(), service.metrics_text().decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    parsed = {
        sample.name + ("{" + ",".join(f'{k}="{v}"' for k, v in sample.labels.items()) + "}") * bool(sample.labels):
        sample.value
        for family in families.values()
        for sample in family.samples
    }  # fmt: skip
    assert set(parsed) == set(values)
    assert families["workbench_request_seconds"].type == "histogram"
    assert values[ANSWERED] == parsed[ANSWERED] == values["workbench_request_seconds_count"] == 3
    assert values['workbench_images_total{model="engine"}'] == values["workbench_batch_images_sum"] == 24
    assert values["workbench_engine_active"] == 1
    assert values["workbench_queue_images"] == 0


def test_the_engines_process_is_watched_like_the_service_itself(packed):
    with deploy(packed) as service:
        values = service.metrics()
        assert values["process_resident_memory_bytes"] > 0
        assert values["workbench_engine_process_resident_memory_bytes"] > 0
        service._fallback._process.kill()
        service.predict(some_images(1))
        assert service.metrics()["workbench_fallbacks_total"] == 1


def test_two_services_in_one_process_count_for_themselves(packed):
    with deploy(packed) as one, deploy(packed) as other:
        one.predict(some_images(1))
        assert (one.metrics()[ANSWERED], other.metrics()[ANSWERED]) == (1, 0)


def test_drift_is_among_the_metrics_once_enough_images_were_seen(packed):
    with deploy(packed) as service:
        assert np.isnan(service.metrics()["workbench_drift_input"])
        for seed in range(40):
            service.predict(some_images(1, seed=seed) + 4)
        assert service.metrics()["workbench_drift_input"] > 3
