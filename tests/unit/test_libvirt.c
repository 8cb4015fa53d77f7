/* test_libvirt.c - which UUID a machine description gives. */
#include "tests/test.h"

#include "formats/machine/libvirt.h"

static bool uuid_of(const char *xml, char uuid[static MACHINE_UUID_BYTES])
{
	return libvirt_uuid(xml, strlen(xml), uuid) == 1;
}

#define UUID "11111111-2222-3333-4444-5555555555aa"

static void test_libvirt__domain(void **state)
{
	char u[MACHINE_UUID_BYTES];

	(void)state;
	assert_true(uuid_of("<?xml version='1.0'?><domain type='kvm'><name>x</name><uuid>11111111-2222-3333-4444-5555555555AA</uuid></domain>", u));
	assert_string_equal(u, UUID);
	assert_true(uuid_of("<domainsnapshot><domain><uuid>\n" UUID "\n</uuid></domain></domainsnapshot>", u));
	assert_string_equal(u, UUID);
}

static void test_libvirt__refused(void **state)
{
	static const char *const bad[] = {
		"", "not xml", "<domain><uuid>" UUID "</uuid>", "<other><uuid>" UUID "</uuid></other>",
		"<domain><devices><uuid>" UUID "</uuid></devices></domain>", "<domain><uuid>1234</uuid></domain>",
		"<domain><uuid>" UUID " 0</uuid></domain>", "<domain><uuid>" UUID "<x/></uuid></domain>", "<domain><uuid>{" UUID "}</uuid></domain>",
		"<domain><uuid>" UUID "0</uuid></domain>", "<domain><uuid>g1111111-2222-3333-4444-5555555555aa</uuid></domain>",
		"<!DOCTYPE domain [<!ENTITY u \"" UUID "\">]><domain><uuid>&u;</uuid></domain>",
		"<!DOCTYPE domain [<!ENTITY u SYSTEM \"/etc/hostname\">]><domain><uuid>&u;</uuid></domain>",
	};
	char u[MACHINE_UUID_BYTES];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		if (uuid_of(bad[i], u))
			fail_msg("accepted: %s", bad[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_libvirt__domain),
		cmocka_unit_test(test_libvirt__refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
