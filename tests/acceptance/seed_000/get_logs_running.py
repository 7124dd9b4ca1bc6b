from magpie_local import Magpie

client = Magpie(api_key="your_api_key_here")

# Monitor logs for a running job
job = client.jobs.create(
    name="log-generator",
    script="""
    for i in {1..10}; do
        echo "Processing item $i"
        sleep 2
    done
    """,
    vcpus=1,
    memory_mb=512
)

import time
time.sleep(5)
logs = client.jobs.get_logs(job.id)
print(f"Current output:\n{logs}")
