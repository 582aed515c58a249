"""Holds manifests against the schema of their kind as strictly as a server does with fieldValidation=Strict, and prints what is wrong:

    kubectl get crd envoyfilters.networking.istio.io -o yaml | .venv/bin/python scripts/crd-check.py - deploy/istio.yaml

The first argument is a file of CustomResourceDefinitions, or - for the standard input. It can be any of a controller's: those of other
kinds are passed over. Fields that a schema does not name are errors. CEL rules are not evaluated.
"""

import sys

import jsonschema_rs
import yaml


def strict(schema):
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: strict(value) for key, value in schema.items()}
    is_open = "additionalProperties" in schema or schema.get("x-kubernetes-preserve-unknown-fields")
    if isinstance(schema.get("properties"), dict) and not is_open:
        schema["additionalProperties"] = False
    return schema


def schemas(definitions):
    for definition in definitions:
        if (definition or {}).get("kind") != "CustomResourceDefinition":
            continue
        spec = definition["spec"]
        for version in spec["versions"]:
            schema = version["schema"]["openAPIV3Schema"]
            # What every object has.
            for key, kind in (("apiVersion", "string"), ("kind", "string"), ("metadata", "object")):
                schema.setdefault("properties", {}).setdefault(key, {"type": kind})
            yield (f"{spec['group']}/{version['name']}", spec["names"]["kind"]), jsonschema_rs.Draft4Validator(strict(schema))


def main(definitions, *manifests):
    with sys.stdin if definitions == "-" else open(definitions, encoding="utf-8") as file:
        known = dict(schemas(list(yaml.safe_load_all(file))))
    failed = False
    for path in manifests:
        with open(path, encoding="utf-8") as file:
            for document in yaml.safe_load_all(file):
                kind = (document["apiVersion"], document["kind"])
                if kind not in known:
                    print(f"{path}: there is no definition of {' '.join(kind)}")
                    failed = True
                    continue
                errors = list(known[kind].iter_errors(document))
                for error in errors:
                    print(f"{path}: {'/'.join(str(part) for part in error.instance_path)}: {error.message}")
                failed = failed or bool(errors)
                if not errors:
                    print(f"{path}: is a {kind[1]}")
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
