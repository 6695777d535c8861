"""Whether the served documents are what their standards say: OpenAPI 3.1, AsyncAPI 3.0.

check_documents.py USER_BASE ADMIN_BASE ASYNCAPI_SCHEMA
"""

import json
import sys
import urllib.request

import jsonschema_rs
import openapi_spec_validator


def fetch(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def main(user, admin, asyncapi_schema):
    for base in (user, admin):
        document = fetch(f"{base}/api/v3/openapi.json")
        openapi_spec_validator.validate(document, cls=openapi_spec_validator.OpenAPIV31SpecValidator)
        print(f"OpenAPI 3.1: {document['info']['title']}: {len(document['paths'])} paths")
    with open(asyncapi_schema, encoding="utf-8") as file:
        validator = jsonschema_rs.Draft7Validator(json.load(file))
    document = fetch(f"{user}/api/v3/asyncapi.json")
    problems = [f"{error.instance_path}: {error}" for error in validator.iter_errors(document)]
    if problems:
        sys.exit("AsyncAPI 3.0:\n" + "\n".join(problems))
    # The schema lets much through; a document without its version is no AsyncAPI for sure.
    if validator.is_valid({key: value for key, value in document.items() if key != "asyncapi"}):
        sys.exit("AsyncAPI 3.0: the schema checks nothing")
    print(f"AsyncAPI 3.0: {document['info']['title']}: {len(document['components']['messages'])} messages")


main(*sys.argv[1:])
