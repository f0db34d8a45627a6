"""launch/jobset.yaml: valid by Kubernetes' and JobSet's own schemas, and consistent in itself."""

import re
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from kubeflow_trainer_api.models.jobset_v1alpha2_job_set import JobsetV1alpha2JobSet
from pydantic import ValidationError

FILE = Path(__file__).parents[2] / "launch/jobset.yaml"
KUBERNETES = ("1.31.0", "1.37.0")  # podFailurePolicy is stable since 1.31
ACTIONS = {"FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts"}


def load():
    claim, job_set = yaml.safe_load_all(FILE.read_text())
    return claim, job_set


def job_of(job_set):
    (replicated,) = job_set["spec"]["replicatedJobs"]
    template = replicated["template"]
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}, **template}


def check(document, version):
    kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("version", KUBERNETES)
def test_claim_and_job_follow_kubernetes_schemas(version):
    """Old and new Kubernetes know every field."""
    claim, job_set = load()
    check(claim, version)
    check(job_of(job_set), version)


def test_a_misspelt_field_of_the_job_is_noticed():
    """What the schema does not know, or knows otherwise, is refused: the test before this one can fail."""
    for key, value in (("backofLimit", 0), ("completions", "two")):
        job = job_of(load()[1])
        job["spec"][key] = value
        with pytest.raises(kubernetes_validate.ValidationError):
            check(job, KUBERNETES[-1])


def follows_job_set(document):
    """Whether every field of the document is one of JobSet's, with the right type."""
    try:
        model = JobsetV1alpha2JobSet.from_dict(document)
    except ValidationError:
        return False
    assert model is not None
    return model.to_dict() == document  # fields that JobSet does not know are gone


def test_job_set_follows_its_schema_and_a_wrong_field_is_noticed():
    """JobSet's published types know every field; a misspelt one or a wrong type is refused."""
    assert follows_job_set(load()[1])
    for key, value in (("maxRestart", 3), ("maxRestarts", "three")):
        job_set = load()[1]
        job_set["spec"]["failurePolicy"][key] = value
        assert not follows_job_set(job_set)


def outcome(job_set, reason, message):
    """What JobSet does with a failed Job: the first rule that holds for reason and message."""
    for rule in job_set["spec"]["failurePolicy"]["rules"]:
        patterns = rule.get("onJobFailureMessagePatterns", [""])
        if reason in rule.get("onJobFailureReasons", [reason]) and any(re.search(p, message) for p in patterns):
            assert rule["action"] in ACTIONS
            return rule["action"]
    return "RestartJobSet"


@pytest.mark.parametrize(
    ("code", "action"),
    [
        (75, "RestartJobSetAndIgnoreMaxRestarts"),
        (2, "FailJobSet"),
        (3, "FailJobSet"),
        (1, "RestartJobSet"),
        (137, "RestartJobSet"),
    ],
)
def test_exit_codes_lead_to_the_right_restart(code, action):
    """75 restarts without being counted, bad input ends the set, a crash is counted."""
    job_set = load()[1]
    by_codes, by_conditions = job_of(job_set)["spec"]["podFailurePolicy"]["rules"]
    assert by_codes["onExitCodes"]["operator"] == "In"
    if code in by_codes["onExitCodes"]["values"]:
        # The words of Kubernetes' Job controller.
        message = f"Container laegd for pod default/w-0 failed with exit code {code} matching FailJob rule at index 0"
        found = outcome(job_set, "PodFailurePolicy", message)
    else:
        found = outcome(job_set, "BackoffLimitExceeded", "Job has reached the specified backoff limit")
    assert found == action
    message = "Pod default/w-0 has condition DisruptionTarget matching FailJob rule at index 1"
    assert by_conditions["action"] == "FailJob"
    assert outcome(job_set, "PodFailurePolicy", message) == "RestartJobSetAndIgnoreMaxRestarts"


def test_runs_as_the_image_s_user_without_privileges():
    """What Kubernetes' "restricted" security standard asks for; the user is the one that the Dockerfile makes."""
    pod = job_of(load()[1])["spec"]["template"]["spec"]
    context, (container,) = pod["securityContext"], pod["containers"]
    dockerfile = (FILE.parents[1] / "docs/clusters.md").read_text().split("FROM python")[1].split("```")[0]
    (made,), (used,) = re.findall(r"useradd --uid (\d+)", dockerfile), re.findall(r"^USER (\d+)$", dockerfile, re.M)
    assert context["runAsUser"] == context["fsGroup"] == int(made) == int(used) > 0
    assert context["runAsNonRoot"] is True and context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def test_names_and_numbers_agree():
    """The coordinator is the first pod, the number of processes that of pods, container and claim go by their names."""
    claim, job_set = load()
    (replicated,) = job_set["spec"]["replicatedJobs"]
    spec = replicated["template"]["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    flags = dict(argument.removeprefix("--").split("=", 1) for argument in container["args"])
    assert int(flags["num-processes"]) == spec["completions"] == spec["parallelism"]
    assert spec["completionMode"] == "Indexed" and flags["process-id"] == "$(JOB_COMPLETION_INDEX)"
    (port,) = container["ports"]
    # Pods are called <job set>-<replicated job>-<job>-<pod>, in a subdomain that is called like the set.
    first = f"$(JOBSET_NAME)-{replicated['name']}-0-0.$(JOBSET_NAME):{port['containerPort']}"
    assert flags["coordinator"] == first and container["env"][0]["name"] == "JOBSET_NAME"
    assert spec["podFailurePolicy"]["rules"][0]["onExitCodes"]["containerName"] == container["name"]
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert flags["workdir"].startswith(container["volumeMounts"][0]["mountPath"])
    assert (FILE.parents[1] / flags["config"]).exists()
