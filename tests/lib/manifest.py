#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
manifest.py - a Kubernetes manifest is looked at, and taken apart so that its containers can be run

  manifest.py check FILE                          what is wrong with it, a line each; status 1 if anything is
  manifest.py container FILE KIND NAME CONTAINER  that container as JSON: command, env, mounts (source:target[:ro];
                                                  empty:NAME for an emptyDir), user, read_only, host_network, probe

No cluster is asked. The shapes below hold the fields that we use, so that a misspelt or misplaced one is
found; what they promise is checked beside them: references, selectors, and that nothing asks for more than
it needs. A shape: a dict of fields ('!' in front: must be there), a list of one shape, or a type; TEXTS is a map
of strings.
"""
import json
import re
import sys

import yaml

TEXTS = 'texts'
PROBE = {'exec': {'!command': [str]}, 'tcpSocket': {'!port': int}, 'periodSeconds': int,
         'timeoutSeconds': int, 'failureThreshold': int}
CONTAINER = {
    '!name': str, '!image': str, '!command': [str], 'restartPolicy': str,
    'env': [{'!name': str, '!value': str}], 'ports': [{'!containerPort': int}],
    'startupProbe': PROBE, 'livenessProbe': PROBE, 'readinessProbe': PROBE,
    '!securityContext': {
        'runAsUser': int, 'runAsGroup': int, 'runAsNonRoot': bool,
        '!allowPrivilegeEscalation': bool, '!readOnlyRootFilesystem': bool,
        '!capabilities': {'!drop': [str], 'add': [str]}},
    '!resources': {'!requests': TEXTS, '!limits': TEXTS},
    'volumeMounts': [{'!name': str, '!mountPath': str, 'readOnly': bool}],
}
POD = {
    'hostNetwork': bool, 'automountServiceAccountToken': bool, 'priorityClassName': str,
    'terminationGracePeriodSeconds': int, 'tolerations': [{'operator': str, 'key': str}],
    '!securityContext': {'runAsUser': int, 'runAsGroup': int, '!seccompProfile': {'!type': str}},
    'initContainers': [CONTAINER], '!containers': [CONTAINER],
    'volumes': [{'!name': str, 'hostPath': {'!path': str, '!type': str},
                 'emptyDir': {'medium': str, 'sizeLimit': str}}],
}
METADATA = {'!name': str, 'namespace': str, 'labels': TEXTS}
WORKLOAD = {'!selector': {'!matchLabels': TEXTS},
            '!template': {'!metadata': {'!labels': TEXTS}, '!spec': POD}}
KINDS = {
    'Namespace': ('v1', None),
    'DaemonSet': ('apps/v1', dict(WORKLOAD, updateStrategy={'!type': str})),
    'Deployment': ('apps/v1', dict(WORKLOAD, replicas=int)),
}
UNITS = {'Ki': 1 << 10, 'Mi': 1 << 20, 'Gi': 1 << 30}


def fit(value, shape, where):
    """What of value does not fit the shape."""
    if shape == TEXTS:
        if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
            yield f'{where}: not a map of strings'
    elif isinstance(shape, list):
        if not isinstance(value, list):
            yield f'{where}: not a list'
            return
        for i, item in enumerate(value):
            yield from fit(item, shape[0], f'{where}[{i}]')
    elif isinstance(shape, dict):
        if not isinstance(value, dict):
            yield f'{where}: not an object'
            return
        known = {key.lstrip('!'): inner for key, inner in shape.items()}
        for key, inner in value.items():
            if key in known:
                yield from fit(inner, known[key], f'{where}.{key}')
            else:
                yield f'{where}.{key}: no such field is known here'
        for key in shape:
            if key[0] == '!' and key[1:] not in value:
                yield f'{where}.{key[1:]}: missing'
    elif not isinstance(value, shape) or (shape is int and isinstance(value, bool)):
        yield f'{where}: not of type {shape.__name__}'


def quantity(text):
    match = re.fullmatch(r'(\d+)(Ki|Mi|Gi)?', text)
    return int(match[1]) * UNITS.get(match[2], 1) if match else None


def containers(pod):
    return pod.get('initContainers', []) + pod['containers']


def region_bytes(pod):
    """Of the region whose memory a container of this pod takes; 0: none does."""
    sizes = [re.search(r'fallocate -l (\d+)M', ' '.join(c['command'])) for c in containers(pod)]
    return max([int(m[1]) << 20 for m in sizes if m], default=0)


def look_at_container(container, pod, where):
    volumes = {v['name']: v for v in pod.get('volumes', [])}
    security = container['securityContext']
    if security['allowPrivilegeEscalation'] or not security['readOnlyRootFilesystem']:
        yield f'{where}: asks for more than it needs'
    if security['capabilities'] != {'drop': ['ALL']}:
        yield f'{where}: needs no capability'
    if container.get('restartPolicy', 'Always') != 'Always':
        yield f'{where}.restartPolicy: Always, or none'
    if not re.fullmatch(r'[a-z0-9./-]+:[A-Za-z0-9._-]+', container['image']):
        yield f'{where}.image: no version'
    for part in ('requests', 'limits'):
        memory = container['resources'][part].get('memory', '')
        if quantity(memory) is None:
            yield f'{where}.resources.{part}.memory: {memory!r}'
        elif quantity(memory) < region_bytes(pod) + (32 << 20):
            yield f'{where}.resources.{part}.memory: the region alone takes that'
    for mount in container.get('volumeMounts', []):
        if mount['name'] not in volumes:
            yield f'{where}: no volume {mount["name"]}'


def look_at_pod(pod, where):
    if pod['securityContext']['seccompProfile']['type'] != 'RuntimeDefault':
        yield f'{where}: a seccomp profile'
    used = {m['name'] for c in containers(pod) for m in c.get('volumeMounts', [])}
    for volume in pod.get('volumes', []):
        name = f'{where}.volumes.{volume["name"]}'
        if volume['name'] not in used:
            yield f'{name}: nobody mounts it'
        if ('hostPath' in volume) == ('emptyDir' in volume):
            yield f'{name}: one kind of volume'
        if volume.get('hostPath', {}).get('type', 'Directory') not in ('Directory', 'DirectoryOrCreate'):
            yield f'{name}: a folder'
        if 'emptyDir' in volume and volume['emptyDir'].get('medium') != 'Memory':
            yield f'{name}: records change all the time: in memory'
    for container in containers(pod):
        yield from look_at_container(container, pod, f'{where}.{container["name"]}')


def look_at(document, where):
    version, spec = KINDS.get(document.get('kind'), (None, None))
    if document.get('apiVersion') != version or not version:
        yield f'{where}: {document.get("apiVersion")} {document.get("kind")}'
        return
    shape = {'!apiVersion': str, '!kind': str, '!metadata': METADATA}
    if spec:
        shape['!spec'] = spec
    problems = list(fit(document, shape, where))
    yield from problems
    if not re.fullmatch(r'[a-z0-9]([a-z0-9-]*[a-z0-9])?', document.get('metadata', {}).get('name', '')):
        yield f'{where}: name'
    if problems or not spec:
        return
    template = document['spec']['template']
    for key, value in document['spec']['selector']['matchLabels'].items():
        if template['metadata']['labels'].get(key) != value:
            yield f'{where}: the selector does not find its own pods'
    yield from look_at_pod(template['spec'], where)


def check(documents):
    problems = []
    names = [d['metadata']['name'] for d in documents if d.get('kind') == 'Namespace']
    for document in documents:
        where = f'{document.get("kind")} {document.get("metadata", {}).get("name")}'
        problems += look_at(document, where)
        if document.get('kind') != 'Namespace' and document.get('metadata', {}).get('namespace') not in names:
            problems.append(f'{where}: a namespace that is not made here')
    for problem in problems:
        print(problem)
    return 1 if problems or len(documents) < 2 else 0


def take_apart(documents, kind, name, wanted):
    pod = next(d for d in documents if d['kind'] == kind and d['metadata']['name'] == name)
    pod = pod['spec']['template']['spec']
    container = next(c for c in containers(pod) if c['name'] == wanted)
    source = {v['name']: v['hostPath']['path'] if 'hostPath' in v else f'empty:{v["name"]}'
              for v in pod['volumes']}
    security = dict(pod['securityContext'], **container['securityContext'])
    print(json.dumps({
        'command': container['command'],
        'env': [f'{e["name"]}={e["value"]}' for e in container.get('env', [])],
        'mounts': [f'{source[m["name"]]}:{m["mountPath"]}' + (':ro' if m.get('readOnly') else '')
                   for m in container.get('volumeMounts', [])],
        'user': security.get('runAsUser', 0),
        'read_only': security['readOnlyRootFilesystem'],
        'host_network': pod.get('hostNetwork', False),
        'probe': container.get('startupProbe', {}).get('exec', {}).get('command', []),
    }))
    return 0


def main(arguments):
    if len(arguments) not in (2, 5) or arguments[0] not in ('check', 'container'):
        print(__doc__, file=sys.stderr)
        return 2
    with open(arguments[1], encoding='utf-8') as file:
        documents = [d for d in yaml.safe_load_all(file) if d]
    if arguments[0] == 'check':
        return check(documents)
    return take_apart(documents, *arguments[2:])


sys.exit(main(sys.argv[1:]))
